// The parts of a transformer layer that prefill and decode share, for up to `chunk` rows at a time.
#pragma once

#include <cstdint>
#include <functional>
#include <span>

#include "model.h"
#include "phase_times.h"
#include "rows.h"

namespace longhaul {

/// Calls body(first, count) for consecutive pieces of [0, rows) of at most `chunk` rows.
void for_chunks(int64_t rows, int64_t chunk, const std::function<void(int64_t first, int64_t count)>& body);

/// Rows per call of `Forward` for a prefill of `rows` rows; `wanted` 0: on a device as many as keep its scratch
/// memory within rows * C elements, so that the chips are full and the prefill needs 3 * rows * C in all.
int64_t chunk_rows(const Model& model, int64_t rows, int64_t wanted);

/// Symbols as in backend.h. T is at most `chunk`: the scratch memory, about chunk * (C + 2F)
/// elements, is all that depends on the MLP's width.
class Forward {
 public:
  Forward(const Model& model, int64_t chunk, PhaseTimes* phases = nullptr);

  /// Norm, projections and RoPE of x [T, C] at positions position.. -> q [T, NQ*D] and kv
  /// [T, NK*D] twice. With `scores` also the retaining scores of the rows before RoPE (Locret,
  /// 2410.01805), float32 [NK, T] in device memory.
  void project(const Layer& layer, const Matrix& x, int64_t position, const Matrix& q, const KeyValues& kv, float* scores);

  /// Output projection of attention [T, NQ*D], residual, MLP, residual: x [T, C] in place.
  void finish(const Layer& layer, const Matrix& attention, const Matrix& x);

  /// Output projection of attention [T, NQ*D] and the residual: x [T, C] in place. The first half of `finish`.
  void output(const Layer& layer, const Matrix& attention, const Matrix& x);

  /// What the columns [first, first + count) of the MLP's width give of it for few rows x [T, C] -> share [T, C]. The sum
  /// of shares that cover the width is what the MLP adds to x.
  void mlp_share(const Layer& layer, const Matrix& x, int64_t first, int64_t count, const Matrix& share);

  /// Logits [V] in host memory of one row x [1, C].
  void logits(const Matrix& x, float* out);

 private:
  Matrix scratch(const Rows& rows, int64_t count, int64_t columns) const;

  const Model& model_;
  Backend& backend_;
  PhaseTimes* phases_;
  Rows normed_;  // [chunk, C]
  Rows wide_;    // [chunk, max(2F, (NQ+2NK)*D)]: gate and up, their product over gate; or q, k and v
};

}  // namespace longhaul
