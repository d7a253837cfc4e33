// Products of few rows with a weight: decoding reads every weight once per token.
#pragma once

#include "linear.h"

namespace longhaul::cuda {

/// Rows up to which this is the faster way, for a weight of this width.
bool few_rows(int64_t rows, int64_t in);

/// A weight [out, in] or a rectangle of one.
struct WeightView {
  const __nv_bfloat16* data;
  const __nv_bfloat16* bias;  // [out] or null
  int64_t in, out, stride;
};

inline WeightView whole(const DeviceLinear& weight) {
  return {weight.weight(), weight.bias(), weight.in(), weight.out(), weight.in()};
}

/// y [T, out] = x [T, in] * weight^T + bias (+ y, with `accumulate`); y is bfloat16, or float32 where
/// `y_float` is given instead. Any shape and alignment; float32 sums.
void gemv(const Device& device, const Matrix& x, const WeightView& weight, __nv_bfloat16* y, float* y_float,
          int64_t y_stride, bool accumulate);

}  // namespace longhaul::cuda
