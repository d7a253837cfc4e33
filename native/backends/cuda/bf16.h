// bfloat16 in registers: packs of 8 (16 bytes, one vector access) or single elements.
#pragma once

#include <cuda_bf16.h>

#include <cstdint>

namespace longhaul::cuda {

template <int N>
struct alignas(N * 2) Pack {
  __nv_bfloat16 x[N];
};

template <int N>
__device__ __forceinline__ void load_floats(const __nv_bfloat16* from, float (&to)[N]) {
  const Pack<N> pack = *reinterpret_cast<const Pack<N>*>(from);
#pragma unroll
  for (int i = 0; i < N; ++i) to[i] = __bfloat162float(pack.x[i]);
}

template <int N>
__device__ __forceinline__ void store_floats(__nv_bfloat16* to, const float (&from)[N]) {
  Pack<N> pack;
#pragma unroll
  for (int i = 0; i < N; ++i) pack.x[i] = __float2bfloat16_rn(from[i]);
  *reinterpret_cast<Pack<N>*>(to) = pack;
}

template <class T>
__device__ __forceinline__ T warp_sum(T x) {
#pragma unroll
  for (int step = 16; step > 0; step /= 2) x += __shfl_xor_sync(0xffffffffu, x, step);
  return x;
}

__device__ __forceinline__ float silu(float x) { return __fdividef(x, 1.f + __expf(-x)); }

/// Whether rows of 8-element packs can be read: base and stride on 16-byte boundaries, whole packs.
inline bool packs_of_8(const void* data, int64_t stride, int64_t columns) {
  return reinterpret_cast<uintptr_t>(data) % 16 == 0 && stride % 8 == 0 && columns % 8 == 0;
}

}  // namespace longhaul::cuda
