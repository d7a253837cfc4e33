// Exact causal attention over a document that no rank holds alone.
#pragma once

#include <memory>

#include "exchange.h"
#include "layout.h"

namespace longhaul {

class ExactAttention {
 public:
  virtual ~ExactAttention() = default;

  /// q [T, NQ*D] and kv [T, NK*D] twice, dense, are this rank's T rows of a layer: its block and then
  /// its mirror. Returns [T, NQ*D], valid until the next call. Every rank calls it together; throws
  /// CommError.
  virtual Matrix attend(const Matrix& q, const KeyValues& kv) = 0;
};

/// Ring Attention (2310.01889) for the layouts contiguous and zigzag: keys and values go round the
/// ranks, and partial attention is merged by its log-sum-exp. `chunk`: rows per attention call.
std::unique_ptr<ExactAttention> make_ring(Backend& backend, Exchange& exchange, const Heads& heads,
                                          const Layout& layout, int64_t chunk);

/// DeepSpeed-Ulysses (2309.14509): for attention alone, ranks exchange rows for heads. The ranks
/// divide the query heads; each gets the KV heads that its query heads need.
std::unique_ptr<ExactAttention> make_ulysses(Backend& backend, Exchange& exchange, const Heads& heads,
                                             const Layout& layout, int64_t chunk);

}  // namespace longhaul
