// One block per row. Its angles are computed once for all heads, reduced in double: at position 1e6
// a float angle would be off by 0.03 radians.
#include <algorithm>

#include "bf16.h"
#include "check.h"
#include "rotary.h"

namespace longhaul::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kMostHalf = 256;

struct Target {
  __nv_bfloat16* data;
  int64_t stride;
};

struct Rotation {
  const __nv_bfloat16* x;  // [T, rotated + plain heads, D]
  int64_t stride;
  const double* frequencies;  // [half]
  Positions positions;
  int half, nq, nk;      // nq + nk heads are rotated
  Target q, keys, values;  // values.data null: nothing to copy
  MovingRow moving;        // of keys and values
};

template <int N>
__global__ void __launch_bounds__(kThreads) rotary_kernel(const Rotation r) {
  __shared__ float cosines[kMostHalf], sines[kMostHalf];
  const int64_t row = blockIdx.x;
  const double position = r.positions.list ? r.positions.list[row] : r.positions.first + static_cast<int32_t>(row);
  for (int i = threadIdx.x; i < r.half; i += kThreads) {
    constexpr double kTurn = 6.283185307179586476925;
    const double angle = position * r.frequencies[i];
    __sincosf(static_cast<float>(fma(-kTurn, rint(angle * (1 / kTurn)), angle)), &sines[i], &cosines[i]);
  }
  __syncthreads();

  const __nv_bfloat16* from = r.x + row * r.stride;
  const int64_t kept = row + (r.moving.rows ? *r.moving.rows - r.moving.recorded : 0);
  const int per_head = r.half / N;
  for (int item = threadIdx.x; item < (r.nq + r.nk) * per_head; item += kThreads) {
    const int head = item / per_head, i = item % per_head * N;
    float a[N], b[N];
    load_floats<N>(from + head * 2 * r.half + i, a);
    load_floats<N>(from + head * 2 * r.half + r.half + i, b);
#pragma unroll
    for (int j = 0; j < N; ++j) {
      const float c = cosines[i + j], s = sines[i + j], x = a[j], y = b[j];
      a[j] = x * c - y * s;
      b[j] = y * c + x * s;
    }
    __nv_bfloat16* to = head < r.nq ? r.q.data + row * r.q.stride + head * 2 * r.half
                                    : r.keys.data + kept * r.keys.stride + (head - r.nq) * 2 * r.half;
    store_floats<N>(to + i, a);
    store_floats<N>(to + r.half + i, b);
  }
  if (!r.values.data) return;
  const __nv_bfloat16* plain = from + (r.nq + r.nk) * 2 * r.half;
  for (int c = threadIdx.x * N; c < r.nk * 2 * r.half; c += kThreads * N)
    *reinterpret_cast<Pack<N>*>(r.values.data + kept * r.values.stride + c) = *reinterpret_cast<const Pack<N>*>(plain + c);
}

Target target(const Matrix& m) { return {static_cast<__nv_bfloat16*>(m.data), m.stride}; }

void launch(const Device& device, const Rotation& r, int64_t rows, bool packed) {
  require(r.half <= kMostHalf, "rope: heads wider than 512");
  if (rows == 0) return;
  if (packed && r.half % 8 == 0) rotary_kernel<8><<<static_cast<unsigned>(rows), kThreads, 0, device.stream()>>>(r);
  else rotary_kernel<1><<<static_cast<unsigned>(rows), kThreads, 0, device.stream()>>>(r);
  check_launch("rope");
}

}  // namespace

const double* Rotary::frequencies(const Rope& rope) {
  if (!frequencies_ || kept_ != rope.inverse_frequencies) {
    kept_ = rope.inverse_frequencies;
    const size_t bytes = kept_.size() * sizeof(double);
    frequencies_ = std::make_unique<DeviceBuffer>(device_, bytes);
    check(cudaMemcpyAsync(frequencies_->data(), kept_.data(), bytes, cudaMemcpyHostToDevice, device_->stream()), "copying frequencies");
    check(cudaStreamSynchronize(device_->stream()), "copying frequencies");
  }
  return static_cast<const double*>(frequencies_->data());
}

void Rotary::apply(const Matrix& x, int64_t heads, const Positions& positions, const Rope& rope) {
  const auto half = static_cast<int>(rope.inverse_frequencies.size());
  require(x.columns == heads * 2 * half, "rope: x differs in shape from the heads and frequencies");
  const Target same = target(x);
  launch(*device_, {same.data, same.stride, frequencies(rope), positions, half, static_cast<int>(heads), 0, same, same, {}, {}},
         x.rows, packs_of_8(x.data, x.stride, x.columns));
}

void Rotary::split(const Matrix& qkv, const Heads& heads, const Positions& positions, const Rope& rope, const SplitRows& out,
                   const MovingRow& moving) {
  const auto half = static_cast<int>(rope.inverse_frequencies.size());
  require(heads.dimension == 2 * half && qkv.columns == (heads.query + 2 * heads.key_value) * heads.dimension &&
              out.q.columns == heads.query * heads.dimension && out.keys.columns == heads.key_value * heads.dimension &&
              out.q.rows == qkv.rows && out.keys.rows == qkv.rows && out.values.rows == qkv.rows,
          "rope: qkv and its parts differ in shape from the heads");
  bool packed = true;
  for (const Matrix* m : {&qkv, &out.q, &out.keys, &out.values}) packed = packed && packs_of_8(m->data, m->stride, m->columns);
  launch(*device_, {static_cast<const __nv_bfloat16*>(qkv.data), qkv.stride, frequencies(rope), positions, half,
                    static_cast<int>(heads.query), static_cast<int>(heads.key_value), target(out.q), target(out.keys), target(out.values), moving},
         qkv.rows, packed);
}

}  // namespace longhaul::cuda
