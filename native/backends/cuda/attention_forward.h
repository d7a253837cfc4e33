// Attention for many query rows: see attention_forward.cuh.
#pragma once

#include "attention.h"

namespace longhaul::cuda {

/// As `attention`, without workspace. Segments are not empty.
void attention_forward(cudaStream_t stream, const __nv_bfloat16* q, int64_t q_stride, const AttentionShape& shape,
                       std::span<const AttentionSegment> segments, __nv_bfloat16* out, int64_t out_stride, float* lse);

}  // namespace longhaul::cuda
