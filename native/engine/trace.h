// Intermediate values for the comparison with golden cases; null in production.
#pragma once

#include <cstdint>
#include <map>
#include <utility>
#include <vector>

namespace longhaul {

/// This rank's values. NQ query heads, NK KV heads, V vocabulary, L query tokens.
struct Trace {
  std::vector<float> logits;                                // [steps, V]
  std::map<int, std::vector<int32_t>> selected;             // layer -> [NK, m] document positions
  std::map<int, std::vector<float>> scores;                 // layer -> pooled [NK, block]
  std::vector<std::vector<float>> query_lse;                // layer -> [L, NQ], over this rank's cache
  std::vector<std::vector<float>> query_merged_lse;         // layer -> [L, NQ]
  std::vector<std::vector<float>> query_hidden;             // layer -> [C], of the last query token
  std::vector<std::pair<double, double>> cache_norms;       // layer -> Frobenius norms of K and V
};

}  // namespace longhaul
