// Ops that treat every row on its own.
#pragma once

#include <cuda_bf16.h>

#include "memory.h"

namespace longhaul::cuda {

/// out [T, C] = table[tokens[t]]; tokens [T] in device memory.
void embed(const Device& device, const __nv_bfloat16* table, const uint32_t* tokens, const Matrix& out);

/// out [T, C] = x / sqrt(mean(x^2) + epsilon) * weight; out may be x. The normalised row is rounded before
/// the weight is applied, as transformers does: selections near a tie hang on where an engine rounds.
void rmsnorm(const Device& device, const Matrix& x, const __nv_bfloat16* weight, float epsilon, const Matrix& out);

/// out [T, F] = silu(gate_up[:, :F]) * gate_up[:, F:]; out may be gate_up's first half.
void swiglu(const Device& device, const Matrix& gate_up, const Matrix& out);

/// x [T, C] += parts [count * T, C], one part after the other, summed in order in float32.
void add_parts(const Device& device, int64_t count, const Matrix& parts, const Matrix& x);

/// to [n] = from [n], converted to bfloat16, rounded to nearest even.
void to_bf16(const Device& device, const void* from, DType dtype, __nv_bfloat16* to, int64_t n);

/// to [T, n] dense float32 = x [T, n].
void to_float(const Device& device, const Matrix& x, float* to);

}  // namespace longhaul::cuda
