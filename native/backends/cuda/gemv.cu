// One warp per output column and up to 8 rows of x: the weight's row streams through the warp in
// 16-byte loads, four of them in flight per lane, while x stays in shared memory. Bound by the
// weight's bytes.
#include <algorithm>

#include "bf16.h"
#include "check.h"
#include "gemv.h"

namespace longhaul::cuda {
namespace {

constexpr int kWarps = 8;
constexpr int kMostRows = 8;
constexpr int kMostShared = 227 << 10;
constexpr size_t kShared = 96 << 10;  // of x: two blocks of a multiprocessor still fit

struct Product {
  const __nv_bfloat16* x;       // [T, in]
  const __nv_bfloat16* weight;  // [out, in], rows weight_stride apart
  const __nv_bfloat16* bias;    // [out] or null
  __nv_bfloat16* y;             // [T, out], or
  float* y_float;               // [T, out]
  int64_t x_stride, y_stride, weight_stride;
  int rows, in, out;
  bool accumulate;
};

/// T rows of x, packs of N elements.
template <int T, int N>
__global__ void __launch_bounds__(kWarps * 32) gemv_kernel(const Product p) {
  extern __shared__ __align__(16) unsigned char shared[];
  auto* x = reinterpret_cast<__nv_bfloat16*>(shared);  // [T, in]
  for (int t = 0; t < T; ++t)
    for (int k = threadIdx.x * N; k < p.in; k += kWarps * 32 * N) {
      const auto* from = p.x + t * p.x_stride + k;
      *reinterpret_cast<Pack<N>*>(x + t * p.in + k) = *reinterpret_cast<const Pack<N>*>(from);
    }
  __syncthreads();

  const int lane = threadIdx.x % 32;
  for (int n = blockIdx.x * kWarps + threadIdx.x / 32; n < p.out; n += gridDim.x * kWarps) {
    const __nv_bfloat16* w = p.weight + n * p.weight_stride;
    float sum[T] = {};
    const auto step = [&](const Pack<N>& pack, int k) {
#pragma unroll
      for (int t = 0; t < T; ++t) {
        float values[N];
        load_floats<N>(x + t * p.in + k, values);
#pragma unroll
        for (int i = 0; i < N; ++i) sum[t] += __bfloat162float(pack.x[i]) * values[i];
      }
    };
    int k = lane * N;
    constexpr int kAhead = 4, kStride = 32 * N;
    for (; k + (kAhead - 1) * kStride < p.in; k += kAhead * kStride) {
      Pack<N> packs[kAhead];
#pragma unroll
      for (int a = 0; a < kAhead; ++a) packs[a] = *reinterpret_cast<const Pack<N>*>(w + k + a * kStride);
#pragma unroll
      for (int a = 0; a < kAhead; ++a) step(packs[a], k + a * kStride);
    }
    for (; k < p.in; k += kStride) step(*reinterpret_cast<const Pack<N>*>(w + k), k);
#pragma unroll
    for (int t = 0; t < T; ++t) {
      float y = warp_sum(sum[t]);
      if (lane != t) continue;
      if (p.bias) y += __bfloat162float(p.bias[n]);
      if (p.y_float) {
        p.y_float[t * p.y_stride + n] = y;
      } else {
        __nv_bfloat16* to = p.y + t * p.y_stride + n;
        *to = __float2bfloat16_rn(p.accumulate ? __bfloat162float(*to) + y : y);
      }
    }
  }
}

template <int T, int N>
void launch(const Device& device, const Product& p) {
  const size_t shared = static_cast<size_t>(T) * static_cast<size_t>(p.in) * 2;
  // The limit belongs to the kernel, which other threads may be launching: always the same.
  check(cudaFuncSetAttribute(gemv_kernel<T, N>, cudaFuncAttributeMaxDynamicSharedMemorySize, kMostShared), "gemv");
  const int wanted = (p.out + kWarps - 1) / kWarps;
  const int resident = device.multiprocessors() * static_cast<int>(std::clamp<size_t>(kShared * 2 / std::max<size_t>(shared, 1), 1, 8));
  gemv_kernel<T, N><<<std::min(wanted, resident), kWarps * 32, shared, device.stream()>>>(p);
  check_launch("gemv");
}

template <int N>
void launch_rows(const Device& device, const Product& p) {
  switch (p.rows) {
    case 1: return launch<1, N>(device, p);
    case 2: return launch<2, N>(device, p);
    case 3: return launch<3, N>(device, p);
    case 4: return launch<4, N>(device, p);
    case 5: return launch<5, N>(device, p);
    case 6: return launch<6, N>(device, p);
    case 7: return launch<7, N>(device, p);
    default: return launch<8, N>(device, p);
  }
}

}  // namespace

bool few_rows(int64_t rows, int64_t in) {
  return rows <= kMostRows && static_cast<size_t>(rows * in) * 2 <= kShared;
}

void gemv(const Device& device, const Matrix& x, const WeightView& weight, __nv_bfloat16* y, float* y_float,
          int64_t y_stride, bool accumulate) {
  const auto in = static_cast<int>(weight.in);
  const int64_t most = std::clamp<int64_t>(static_cast<int64_t>(kShared) / (2 * in), 1, kMostRows);
  for (int64_t first = 0; first < x.rows; first += most) {
    const auto* rows = static_cast<const __nv_bfloat16*>(x.data) + first * x.stride;
    const Product p{rows, weight.data, weight.bias, y ? y + first * y_stride : nullptr,
                    y_float ? y_float + first * y_stride : nullptr, x.stride, y_stride,
                    weight.stride, static_cast<int>(std::min(most, x.rows - first)), in, static_cast<int>(weight.out), accumulate};
    if (packs_of_8(rows, x.stride, in) && packs_of_8(weight.data, weight.stride, in)) launch_rows<8>(device, p);
    else launch_rows<1>(device, p);
  }
}

}  // namespace longhaul::cuda
