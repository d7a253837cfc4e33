#include "attention_forward.h"

#include <algorithm>
#include <atomic>
#include <cmath>

#include "attention_forward.cuh"
#include "check.h"
#include "device_facts.h"
#include "tensor_map.h"

namespace longhaul::cuda {
namespace {

// Calls in flight at once, on all streams together, before two would share counters.
constexpr unsigned kCounterPairs = 256;
__device__ unsigned counters[2 * kCounterPairs];

unsigned* next_counters() {
  static std::atomic<unsigned> calls{0};
  void* first = nullptr;
  check(cudaGetSymbolAddress(&first, counters), "cudaGetSymbolAddress");
  return static_cast<unsigned*>(first) + 2 * (calls.fetch_add(1) % kCounterPairs);
}

// Keys and values of heads that run together stay below this, so that they are read from L2.
constexpr int64_t kCachedBytes = 32 << 20;

/// How many KV heads go together: a divisor of all.
int64_t heads_together(const AttentionShape& shape, int64_t keys) {
  const int64_t head_bytes = std::max<int64_t>(1, keys * shape.dimension * 4);
  int64_t together = std::clamp<int64_t>(kCachedBytes / head_bytes, 1, shape.kv_heads);
  while (shape.kv_heads % together != 0) --together;
  return together;
}

template <class Kernel>
void launch(cudaStream_t stream, const __nv_bfloat16* q, int64_t q_stride, const AttentionShape& shape,
            std::span<const AttentionSegment> segments, __nv_bfloat16* out, int64_t out_stride, float* lse) {
  const int64_t group = shape.query_heads / shape.kv_heads, d = shape.dimension;
  typename Kernel::Params p{};
  p.q = tensor_map(q, shape.queries, shape.query_heads * d, q_stride, 64, static_cast<int>(d / 64));
  p.out = tensor_map(out, shape.queries, shape.query_heads * d, out_stride, 64, static_cast<int>(d / 64));
  int64_t keys = 0;
  const auto add = [&](const AttentionSegment& segment) {
    p.keys[p.count] = tensor_map(segment.keys, segment.rows, shape.kv_heads * d, segment.key_stride, Kernel::kTile,
                                 static_cast<int>(d / 64));
    p.values[p.count] = tensor_map(segment.values, segment.rows, shape.kv_heads * d, segment.value_stride,
                                   Kernel::kTile, static_cast<int>(d / 64));
    p.pieces[p.count++] = {static_cast<int>(segment.rows),
                           segment.causal ? static_cast<int>(segment.rows - shape.queries) : Piece::kOpen};
    keys += segment.rows;
  };
  for (const AttentionSegment& segment : segments)  // the diagonal first
    if (segment.causal) add(segment);
  for (const AttentionSegment& segment : segments)
    if (!segment.causal) add(segment);
  p.queries = static_cast<int>(shape.queries);
  p.query_heads = static_cast<int>(shape.query_heads);
  p.group = static_cast<int>(group);
  p.scale = static_cast<float>(1.4426950408889634 / std::sqrt(static_cast<double>(d)));
  p.lse = lse;
  p.schedule = {static_cast<int>((shape.queries + Kernel::kRows - 1) / Kernel::kRows),
                static_cast<int>(shape.query_heads),
                static_cast<int>(heads_together(shape, keys) * group)};
  p.counters = next_counters();

  const auto kernel = attention_forward<Kernel>;
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, Kernel::kSharedBytes),
        "cudaFuncSetAttribute");
  kernel<<<static_cast<unsigned>(std::min(multiprocessors(), p.schedule.items())), Kernel::kThreads,
           Kernel::kSharedBytes, stream>>>(p);
  check_launch("attention");
}

}  // namespace

void attention_forward(cudaStream_t stream, const __nv_bfloat16* q, int64_t q_stride, const AttentionShape& shape,
                       std::span<const AttentionSegment> segments, __nv_bfloat16* out, int64_t out_stride, float* lse) {
  const auto run = [&]<int D, int Stages>() {
    // Parameters up to 4 KB are cheap to pass.
    if (segments.size() <= 12)
      launch<ForwardKernel<D, 128, Stages, 12>>(stream, q, q_stride, shape, segments, out, out_stride, lse);
    else
      launch<ForwardKernel<D, 128, Stages, kMaxAttentionSegments>>(stream, q, q_stride, shape, segments, out, out_stride,
                                                                   lse);
  };
  shape.dimension == 128 ? run.template operator()<128, 2>() : run.template operator()<64, 4>();
}

}  // namespace longhaul::cuda
