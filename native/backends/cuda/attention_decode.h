// Attention for few query rows: see attention_decode.cuh.
#pragma once

#include "attention.h"

namespace longhaul::cuda {

/// Bytes of `workspace` for this shape.
size_t attention_decode_workspace(const AttentionShape& shape);

/// As `attention`. Segments are not empty.
void attention_decode(cudaStream_t stream, const __nv_bfloat16* q, int64_t q_stride, const AttentionShape& shape,
                      std::span<const AttentionSegment> segments, __nv_bfloat16* out, int64_t out_stride, float* lse,
                      void* workspace);

}  // namespace longhaul::cuda
