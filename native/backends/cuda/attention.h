// Softmax attention on Hopper tensor cores: many query rows (prefill) and few (decode).
//
// Keys and values come as a list of segments that lie anywhere in device memory; they are never
// concatenated. Tiles come through the tensor memory accelerator, so pointers must be aligned to
// 16 bytes and strides be multiples of 8 elements: `attention_supported` tells, `attention_plain` is for the rest.
#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <span>

namespace longhaul::cuda {

/// Most segments of one call: the passing blocks of 64 ranks, the anchor, the own block and a tail.
constexpr int64_t kMaxAttentionSegments = 72;

/// Keys and values of one piece of context.
struct AttentionSegment {
  const __nv_bfloat16* keys = nullptr;    // [rows, NK*D], post-RoPE
  const __nv_bfloat16* values = nullptr;  // [rows, NK*D]
  int64_t rows = 0;
  int64_t key_stride = 0;    // elements from row to row
  int64_t value_stride = 0;  // elements from row to row
  /// true: query row i sees keys j <= i + (rows - queries). false: every row sees all of them.
  bool causal = false;
  /// Decode only: where the device holds how many of `rows` are there now (rows is then the
  /// capacity), so that one captured graph serves a growing cache; the rows past them must hold finite
  /// numbers. Null: all of them.
  const int32_t* device_rows = nullptr;
};

struct AttentionShape {
  int64_t queries = 0;      // T
  int64_t query_heads = 0;  // NQ
  int64_t kv_heads = 0;     // NK, divides NQ
  int64_t dimension = 0;    // D: 64 or 128
};

/// Whether the tensor-core kernels can run this call.
bool attention_supported(const AttentionShape& shape, const __nv_bfloat16* q, int64_t q_stride,
                         const __nv_bfloat16* out, int64_t out_stride, std::span<const AttentionSegment> segments);

/// Bytes of scratch memory that `attention` needs for this call: 0 for many query rows; for few,
/// partial outputs of the key splits.
size_t attention_workspace_bytes(const AttentionShape& shape);

/// out [T, NQ*D] = softmax(q k^T / sqrt(D)) v over all segments; lse [T, NQ] float32 (natural log)
/// or null. A row that sees no key has out 0 and lse -inf. `out` may be `q`. Strides in elements.
/// `workspace`: attention_workspace_bytes(shape) bytes, 16-byte aligned, this call's alone until it has run.
/// Enqueues on `stream`; can be captured into a graph. Throws EngineError("cuda_error").
void attention(cudaStream_t stream, const __nv_bfloat16* q, int64_t q_stride, const AttentionShape& shape,
               std::span<const AttentionSegment> segments, __nv_bfloat16* out, int64_t out_stride, float* lse,
               void* workspace);

}  // namespace longhaul::cuda
