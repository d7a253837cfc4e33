// Plain loops over tiles of keys in shared memory, float32 throughout. Four threads share a query
// row: each scores every fourth key of a tile and sums every fourth element of the output.
#include <algorithm>
#include <cfloat>
#include <cmath>

#include "attention_plain.h"
#include "bf16.h"
#include "check.h"

namespace longhaul::cuda {
namespace {

constexpr int kRows = 32, kTile = 32, kParts = 4, kThreads = kRows * kParts;
constexpr int kMostDimension = 128;
constexpr int kSegments = static_cast<int>(kMaxAttentionSegments);

struct Call {
  const __nv_bfloat16* q;
  __nv_bfloat16* out;
  float* lse;
  int64_t q_stride, out_stride, queries;
  int query_heads, group, dimension, segments;
  float scale;
  AttentionSegment segment[kSegments];
};

/// Grid: tiles of query rows x query heads. D4: dimension / 4, rounded up.
template <int D4>
__global__ void __launch_bounds__(kThreads) plain_kernel(const __grid_constant__ Call c) {
  constexpr int kPad = D4 * kParts + 1;
  __shared__ float keys[kTile][kPad], values[kTile][kPad], weights[kRows][kTile + 1];
  const int part = threadIdx.x % kParts, local = threadIdx.x / kParts;
  const int head = blockIdx.y, column = head / c.group * c.dimension;
  const int64_t first_row = static_cast<int64_t>(blockIdx.x) * kRows, row = first_row + local;
  const bool present = row < c.queries;
  const int64_t last_row = min(first_row + kRows, c.queries) - 1;

  float q[D4 * kParts], sum[D4] = {};
  for (int i = 0; i < D4 * kParts; ++i)
    q[i] = present && i < c.dimension ? __bfloat162float(c.q[row * c.q_stride + head * c.dimension + i]) * c.scale : 0.f;
  float best = -INFINITY, total = 0;

  for (int s = 0; s < c.segments; ++s) {
    const AttentionSegment& segment = c.segment[s];
    const int64_t rows = segment.device_rows ? *segment.device_rows : segment.rows;
    const int64_t shift = rows - c.queries;  // causal: row i sees keys up to i + shift
    const int64_t end = segment.causal ? min(rows, last_row + shift + 1) : rows;
    for (int64_t tile = 0; tile < end; tile += kTile) {
      __syncthreads();
      for (int i = threadIdx.x; i < kTile * c.dimension; i += kThreads) {
        const int k = i / c.dimension, d = i % c.dimension;
        const bool inside = tile + k < rows;
        keys[k][d] = inside ? __bfloat162float(segment.keys[(tile + k) * segment.key_stride + column + d]) : 0.f;
        values[k][d] = inside ? __bfloat162float(segment.values[(tile + k) * segment.value_stride + column + d]) : 0.f;
      }
      __syncthreads();
      const int64_t visible = (segment.causal ? min(rows, row + shift + 1) : rows) - tile;  // keys of this tile
      float score[kTile / kParts], top = -INFINITY;
#pragma unroll
      for (int j = 0; j < kTile / kParts; ++j) {
        const int k = j * kParts + part;
        float dot = 0;
#pragma unroll
        for (int d = 0; d < D4 * kParts; ++d)
          if (d < c.dimension) dot += q[d] * keys[k][d];
        score[j] = k < visible ? dot : -INFINITY;
        top = fmaxf(top, score[j]);
      }
      top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 1));
      top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 2));
      const float next = fmaxf(best, top), base = next == -INFINITY ? 0.f : next;
      const float rescale = best == -INFINITY ? 0.f : expf(best - base);
      best = next;
      float added = 0;
#pragma unroll
      for (int j = 0; j < kTile / kParts; ++j) {
        const float weight = score[j] == -INFINITY ? 0.f : expf(score[j] - base);
        weights[local][j * kParts + part] = weight;
        added += weight;
      }
      added += __shfl_xor_sync(0xffffffffu, added, 1);
      added += __shfl_xor_sync(0xffffffffu, added, 2);
      total = total * rescale + added;
      __syncwarp();
#pragma unroll
      for (int i = 0; i < D4; ++i) sum[i] *= rescale;
      for (int k = 0; k < kTile; ++k) {
        const float weight = weights[local][k];
#pragma unroll
        for (int i = 0; i < D4; ++i)
          if (i * kParts + part < c.dimension) sum[i] += weight * values[k][i * kParts + part];
      }
    }
  }
  if (!present) return;
  const float factor = total > 0 ? 1 / total : 0.f;
#pragma unroll
  for (int i = 0; i < D4; ++i)
    if (i * kParts + part < c.dimension)
      c.out[row * c.out_stride + head * c.dimension + i * kParts + part] = __float2bfloat16_rn(sum[i] * factor);
  if (c.lse && part == 0) c.lse[row * c.query_heads + head] = total > 0 ? best + logf(total) : -INFINITY;
}

/// A warp per row and head.
__global__ void merge_kernel(int parts, int64_t rows, const __nv_bfloat16* outs, int64_t outs_stride, const float* lses,
                             int heads, int dimension, __nv_bfloat16* out, int64_t out_stride, float* merged_lse) {
  const int lane = threadIdx.x % 32;
  const int64_t item = (static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) / 32;
  if (item >= rows * heads) return;
  const int64_t row = item / heads;
  const auto head = static_cast<int>(item % heads);
  float best = -INFINITY, total = 0;
  for (int p = 0; p < parts; ++p) best = fmaxf(best, lses[p * rows * heads + item]);
  const float base = best == -INFINITY ? 0.f : best;
  for (int p = 0; p < parts; ++p) total += expf(lses[p * rows * heads + item] - base);
  const float factor = total > 0 ? 1 / total : 0.f;
  for (int d = lane; d < dimension; d += 32) {
    float sum = 0;
    for (int p = 0; p < parts; ++p) {
      const float weight = expf(lses[p * rows * heads + item] - base);
      if (weight > 0) sum += weight * __bfloat162float(outs[(p * rows + row) * outs_stride + head * dimension + d]);
    }
    out[row * out_stride + head * dimension + d] = __float2bfloat16_rn(sum * factor);
  }
  if (merged_lse && lane == 0) merged_lse[item] = total > 0 ? base + logf(total) : -INFINITY;
}

template <int D4>
void launch(const Device& device, const Call& call) {
  const dim3 grid(static_cast<unsigned>((call.queries + kRows - 1) / kRows), static_cast<unsigned>(call.query_heads));
  plain_kernel<D4><<<grid, kThreads, 0, device.stream()>>>(call);
  check_launch("attention_plain");
}

void run(const Device& device, const Call& call) {
  if (call.dimension <= 32) launch<8>(device, call);
  else if (call.dimension <= 64) launch<16>(device, call);
  else launch<32>(device, call);
}

}  // namespace

void attention_plain(const Device& device, const __nv_bfloat16* q, int64_t q_stride, const AttentionShape& shape,
                     std::span<const AttentionSegment> segments, __nv_bfloat16* out, int64_t out_stride, float* lse) {
  require(shape.dimension <= kMostDimension && shape.query_heads % shape.kv_heads == 0, "attention: head dimension above 128, or heads that do not divide");
  if (shape.queries == 0) return;
  Call call{q, out, lse, q_stride, out_stride, shape.queries, static_cast<int>(shape.query_heads),
            static_cast<int>(shape.query_heads / shape.kv_heads), static_cast<int>(shape.dimension), 0,
            1.f / std::sqrt(static_cast<float>(shape.dimension)), {}};
  require(segments.size() <= kSegments, "attention: more than 72 segments");
  for (const AttentionSegment& segment : segments) call.segment[call.segments++] = segment;
  run(device, call);
}

void merge_attention(const Device& device, int64_t parts, int64_t rows, const __nv_bfloat16* outs, int64_t outs_stride,
                     const float* lses, int64_t heads, int64_t dimension, __nv_bfloat16* out, int64_t out_stride, float* merged_lse) {
  if (rows * heads == 0) return;
  merge_kernel<<<static_cast<unsigned>((rows * heads + 7) / 8), 256, 0, device.stream()>>>(
      static_cast<int>(parts), rows, outs, outs_stride, lses, static_cast<int>(heads), static_cast<int>(dimension), out, out_stride, merged_lse);
  check_launch("merge_attention");
}

}  // namespace longhaul::cuda
