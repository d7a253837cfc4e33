// Attention for shapes that the tensor-core kernels do not take (head dimension 32, odd strides),
// and the merging of partial attention.
#pragma once

#include "attention.h"
#include "memory.h"

namespace longhaul::cuda {

/// As `attention`, for any head dimension up to 128, any alignment and up to kMaxAttentionSegments segments.
void attention_plain(const Device& device, const __nv_bfloat16* q, int64_t q_stride, const AttentionShape& shape,
                     std::span<const AttentionSegment> segments, __nv_bfloat16* out, int64_t out_stride, float* lse);

/// outs [parts, T, NQ*D] (rows `outs_stride` apart) and lses [parts, T, NQ] -> out [T, NQ*D], merged_lse [T, NQ] or null.
void merge_attention(const Device& device, int64_t parts, int64_t rows, const __nv_bfloat16* outs, int64_t outs_stride,
                     const float* lses, int64_t heads, int64_t dimension, __nv_bfloat16* out, int64_t out_stride, float* merged_lse);

}  // namespace longhaul::cuda
