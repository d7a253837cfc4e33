#include "selection.h"

#include <algorithm>

#include "bf16.h"
#include "check.h"

namespace longhaul::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kHeads = 8;  // scored in one pass over the hidden row

/// A warp per row; `first` is the first of up to 8 heads.
template <int N>
__global__ void __launch_bounds__(kThreads) score_kernel(const __nv_bfloat16* hidden, int64_t rows, int width,
                                                         const __nv_bfloat16* fc2, const __nv_bfloat16* bias, int first,
                                                         int heads, float* scores) {
  const int lane = threadIdx.x % 32;
  const int64_t row = (static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x) / 32;
  if (row >= rows) return;
  float sums[kHeads] = {};
  for (int r = lane * N; r < width; r += 32 * N) {
    float x[N];
    load_floats<N>(hidden + row * width + r, x);
#pragma unroll
    for (int i = 0; i < N; ++i) x[i] = silu(x[i]);
#pragma unroll
    for (int h = 0; h < kHeads; ++h) {
      if (first + h >= heads) break;
      float w[N];
      load_floats<N>(fc2 + static_cast<int64_t>(first + h) * width + r, w);
#pragma unroll
      for (int i = 0; i < N; ++i) sums[h] += x[i] * w[i];
    }
  }
#pragma unroll
  for (int h = 0; h < kHeads; ++h) {
    const float sum = warp_sum(sums[h]);
    if (lane == h && first + h < heads)
      scores[static_cast<int64_t>(first + h) * rows + row] = sum + (bias ? __bfloat162float(bias[first + h]) : 0.f);
  }
}

__global__ void max_pool_kernel(const float* from, float* to, int64_t rows) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x, base = blockIdx.y * rows;
  if (i >= rows) return;
  float best = from[base + i];
#pragma unroll
  for (int step = -2; step <= 2; ++step)
    if (i + step >= 0 && i + step < rows) best = fmaxf(best, from[base + i + step]);
  to[base + i] = best;
}

/// A group of `lanes` threads copies one head's row of keys or values, in packs of N.
template <int N>
__global__ void __launch_bounds__(kThreads) gather_kernel(const __nv_bfloat16* keys, const __nv_bfloat16* values, int64_t key_stride,
                                                          int64_t value_stride, const int32_t* indices, int count, int64_t offset,
                                                          int heads, int dimension, __nv_bfloat16* out_keys,
                                                          __nv_bfloat16* out_values, int64_t out_key_stride, int64_t out_value_stride) {
  const int per_row = dimension / N, per_item = 2 * per_row;
  const int64_t thread = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  const int64_t item = thread / per_item;  // head fastest: neighbours write next to one another
  if (item >= static_cast<int64_t>(count) * heads) return;
  const auto i = static_cast<int>(item / heads), h = static_cast<int>(item % heads);
  const auto at = static_cast<int>(thread % per_item);
  const int64_t source = indices[static_cast<int64_t>(h) * count + i] + offset;
  const int column = h * dimension + at % per_row * N;
  const bool value = at >= per_row;
  const __nv_bfloat16* from = value ? values + source * value_stride : keys + source * key_stride;
  __nv_bfloat16* to = value ? out_values + i * out_value_stride : out_keys + i * out_key_stride;
  *reinterpret_cast<Pack<N>*>(to + column) = *reinterpret_cast<const Pack<N>*>(from + column);
}

unsigned blocks(int64_t n) { return static_cast<unsigned>((n + kThreads - 1) / kThreads); }

}  // namespace

void score_hidden(const Device& device, const __nv_bfloat16* hidden, int64_t rows, const DeviceLinear& fc2, float* scores) {
  const auto width = static_cast<int>(fc2.in()), heads = static_cast<int>(fc2.out());
  for (int first = 0; first < heads && rows > 0; first += kHeads) {
    if (width % 8 == 0) score_kernel<8><<<blocks(rows * 32), kThreads, 0, device.stream()>>>(hidden, rows, width, fc2.weight(), fc2.bias(), first, heads, scores);
    else score_kernel<1><<<blocks(rows * 32), kThreads, 0, device.stream()>>>(hidden, rows, width, fc2.weight(), fc2.bias(), first, heads, scores);
    check_launch("retaining_scores");
  }
}

void max_pool(const Device& device, const float* from, float* to, int64_t heads, int64_t rows) {
  if (rows == 0) return;
  max_pool_kernel<<<dim3(blocks(rows), static_cast<unsigned>(heads)), kThreads, 0, device.stream()>>>(from, to, rows);
  check_launch("max_pool");
}

void gather(const Device& device, const KeyValues& kv, const int32_t* indices, int64_t count, int64_t offset,
            const Heads& heads, const KeyValues& out) {
  const int64_t width = heads.key_value * heads.dimension;
  require(out.keys.rows == count && out.values.rows == count &&
              (count == 0 || (kv.keys.columns == width && kv.values.columns == width && out.keys.columns == width && out.values.columns == width)),
          "gather: kv and out differ in shape from the heads");
  if (count == 0) return;
  bool packed = heads.dimension % 8 == 0;
  for (const Matrix* m : {&kv.keys, &kv.values, &out.keys, &out.values}) packed = packed && packs_of_8(m->data, m->stride, m->columns);
  const auto data = [](const Matrix& m) { return static_cast<__nv_bfloat16*>(m.data); };
  const int64_t n = count * heads.key_value * 2 * heads.dimension;
  const auto launch = [&](auto kernel, int64_t threads) {
    kernel<<<blocks(threads), kThreads, 0, device.stream()>>>(data(kv.keys), data(kv.values), kv.keys.stride, kv.values.stride, indices,
        static_cast<int>(count), offset, static_cast<int>(heads.key_value), static_cast<int>(heads.dimension),
        data(out.keys), data(out.values), out.keys.stride, out.values.stride);
  };
  if (packed) launch(gather_kernel<8>, n / 8);
  else launch(gather_kernel<1>, n);
  check_launch("gather");
}

}  // namespace longhaul::cuda
