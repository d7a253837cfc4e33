#include "attention.h"

#include <algorithm>
#include <vector>

#include "attention_decode.h"
#include "attention_forward.h"
#include "check.h"
#include "device_facts.h"
#include "tensor_map.h"

namespace longhaul::cuda {
namespace {

// Rows and keys are 32-bit integers in the kernels, with room for the masks' arithmetic.
constexpr int64_t kMaxRows = 1 << 29;

/// Whether to split the keys: when there are fewer tiles of query rows than multiprocessors.
bool splits(const AttentionShape& shape) {
  return (shape.queries + 127) / 128 * shape.query_heads < multiprocessors();
}

std::vector<AttentionSegment> not_empty(std::span<const AttentionSegment> segments) {
  std::vector<AttentionSegment> some;
  for (const AttentionSegment& segment : segments)
    if (segment.rows > 0) some.push_back(segment);
  return some;
}

}  // namespace

bool attention_supported(const AttentionShape& shape, const __nv_bfloat16* q, int64_t q_stride,
                         const __nv_bfloat16* out, int64_t out_stride, std::span<const AttentionSegment> segments) {
  const auto fits = [](const AttentionSegment& s) {
    return s.rows == 0 || (s.rows < kMaxRows && tensor_map_possible(s.keys, s.key_stride) &&
                           tensor_map_possible(s.values, s.value_stride));
  };
  return (shape.dimension == 64 || shape.dimension == 128) && shape.queries < kMaxRows &&
         static_cast<int64_t>(segments.size()) <= kMaxAttentionSegments && tensor_map_possible(q, q_stride) &&
         tensor_map_possible(out, out_stride) && std::all_of(segments.begin(), segments.end(), fits);
}

size_t attention_workspace_bytes(const AttentionShape& shape) {
  return splits(shape) ? attention_decode_workspace(shape) : 0;
}

void attention(cudaStream_t stream, const __nv_bfloat16* q, int64_t q_stride, const AttentionShape& shape,
               std::span<const AttentionSegment> segments, __nv_bfloat16* out, int64_t out_stride, float* lse,
               void* workspace) {
  require(attention_supported(shape, q, q_stride, out, out_stride, segments), "attention of a shape that is not supported");
  if (shape.queries == 0) return;
  const std::vector<AttentionSegment> some = not_empty(segments);
  if (splits(shape)) return attention_decode(stream, q, q_stride, shape, some, out, out_stride, lse, workspace);
  const bool growing = std::any_of(some.begin(), some.end(), [](const auto& s) { return s.device_rows != nullptr; });
  require(!growing, "attention of many query rows over a segment whose length only the device knows");
  attention_forward(stream, q, q_stride, shape, some, out, out_stride, lse);
}

}  // namespace longhaul::cuda
