#include "attention_decode.h"

#include <algorithm>
#include <cmath>

#include "attention_decode.cuh"
#include "check.h"
#include "device_facts.h"
#include "tensor_map.h"

namespace longhaul::cuda {
namespace {

constexpr int kTile = 128;

/// How the query rows of one KV head are cut up, and the keys shared.
struct Split {
  int64_t block_rows, row_blocks, takers, parts;

  explicit Split(const AttentionShape& shape) {
    const int64_t rows = shape.queries * (shape.query_heads / shape.kv_heads);
    block_rows = rows <= 64 ? 64 : 128;
    row_blocks = (rows + block_rows - 1) / block_rows;
    takers = std::max<int64_t>(1, multiprocessors() / row_blocks);
    parts = takers + shape.kv_heads;
  }
};

template <class Kernel, int D>
void launch(cudaStream_t stream, const __nv_bfloat16* q, int64_t q_stride, const AttentionShape& shape,
            std::span<const AttentionSegment> segments, __nv_bfloat16* out, int64_t out_stride, float* lse,
            void* workspace) {
  const Split split(shape);
  typename Kernel::Params p{};
  for (const AttentionSegment& segment : segments) {
    p.keys[p.count] = tensor_map(segment.keys, segment.rows, shape.kv_heads * D, segment.key_stride, kTile, D / 64);
    p.values[p.count] = tensor_map(segment.values, segment.rows, shape.kv_heads * D, segment.value_stride, kTile, D / 64);
    p.pieces[p.count++] = {static_cast<int>(segment.rows), segment.causal, segment.device_rows};
  }
  p.queries = static_cast<int>(shape.queries);
  p.query_heads = static_cast<int>(shape.query_heads);
  p.kv_heads = static_cast<int>(shape.kv_heads);
  p.group = static_cast<int>(shape.query_heads / shape.kv_heads);
  p.row_blocks = static_cast<int>(split.row_blocks);
  p.takers = static_cast<int>(split.takers);
  p.scale = static_cast<float>(1.4426950408889634 / std::sqrt(static_cast<double>(D)));
  p.q = q, p.q_stride = q_stride;
  p.out = out, p.out_stride = out_stride;
  p.lse = lse;
  p.part_out = static_cast<float*>(workspace);
  p.part_lse = p.part_out + split.parts * split.row_blocks * Kernel::kRows * D;

  const auto kernel = attention_decode_parts<Kernel>;
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, Kernel::kSharedBytes),
        "cudaFuncSetAttribute");
  const dim3 grid(static_cast<unsigned>(split.row_blocks), static_cast<unsigned>(split.takers));
  kernel<<<grid, Kernel::kThreads, Kernel::kSharedBytes, stream>>>(p);
  check_launch("attention over parts of the keys");
  const auto rows = static_cast<unsigned>(shape.queries * shape.query_heads);
  attention_decode_merge<Kernel, D, kTile><<<(rows + 3) / 4, 128, 0, stream>>>(p);
  check_launch("merging of attention parts");
}

}  // namespace

size_t attention_decode_workspace(const AttentionShape& shape) {
  const Split split(shape);
  return static_cast<size_t>(split.parts * split.row_blocks * split.block_rows * (shape.dimension + 1)) * sizeof(float);
}

void attention_decode(cudaStream_t stream, const __nv_bfloat16* q, int64_t q_stride, const AttentionShape& shape,
                      std::span<const AttentionSegment> segments, __nv_bfloat16* out, int64_t out_stride, float* lse,
                      void* workspace) {
  const auto run = [&]<int D, int Groups, int Stages>() {
    if (segments.size() <= 12)
      launch<DecodeKernel<D, kTile, Groups, Stages, 12>, D>(stream, q, q_stride, shape, segments, out, out_stride, lse,
                                                            workspace);
    else
      launch<DecodeKernel<D, kTile, Groups, Stages, kMaxAttentionSegments>, D>(stream, q, q_stride, shape, segments,
                                                                               out, out_stride, lse, workspace);
  };
  const bool narrow = Split(shape).block_rows == 64;
  if (shape.dimension == 128) narrow ? run.template operator()<128, 1, 3>() : run.template operator()<128, 2, 3>();
  else narrow ? run.template operator()<64, 1, 6>() : run.template operator()<64, 2, 6>();
}

}  // namespace longhaul::cuda
