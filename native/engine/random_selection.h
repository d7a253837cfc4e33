// Random selection of the passing block: the ablation of the retaining heads.
#pragma once

#include <cstdint>
#include <vector>

namespace longhaul {

/// Portable pseudo-random score in [0, 1) of a document token, by splitmix64 of a mixed key.
double random_score(uint64_t seed, int64_t layer, int64_t head, int64_t token);

struct RandomSelection {
  std::vector<float> scores;     // [NK, end - start]
  std::vector<int32_t> indices;  // [NK, count], ascending, counted from `start`
};

/// Best `count` tokens of [start + first, end) for every KV head, ties to the lower index.
RandomSelection select_random(uint64_t seed, int64_t layer, int64_t key_value_heads, int64_t start,
                              int64_t end, int64_t first, int64_t count);

}  // namespace longhaul
