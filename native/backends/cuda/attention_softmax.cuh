// Running softmax of one warp's 16 query rows, on the registers of a wgmma accumulator.
#pragma once

#include <cuda_bf16.h>

#include <cmath>
#include <cstdint>

namespace longhaul::cuda {

__device__ inline float exp2_fast(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

/// Two floats to bfloat16, the first in the low half.
__device__ inline uint32_t pack_bf16(float low, float high) {
  uint32_t packed;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
  return packed;
}

__device__ inline float quad_max(float x) {
  x = fmaxf(x, __shfl_xor_sync(0xffffffff, x, 1));
  return fmaxf(x, __shfl_xor_sync(0xffffffff, x, 2));
}
__device__ inline float quad_sum(float x) {
  x += __shfl_xor_sync(0xffffffff, x, 1);
  return x + __shfl_xor_sync(0xffffffff, x, 2);
}

/// State of a thread's two rows (lane/4 and +8). The sum is the thread's own until `finish`.
struct Softmax {
  // The reference maximum may lag behind the true one by this many powers of two: exact all the
  // same, since sum and output carry the same factor, and most tiles need no rescaling.
  static constexpr float kLag = 8.f;

  float scale;  // log2(e) / sqrt(D)
  float lag;    // in logits
  float top[2] = {-INFINITY, -INFINITY};
  float sum[2] = {0.f, 0.f};
  float factor[2] = {1.f, 1.f};  // what the output so far must be multiplied by
  bool rescale = false;          // the same in all lanes of the warp

  __device__ explicit Softmax(float scale) : scale(scale), lag(kLag / scale) {}

  /// Logits [16, 2*Count/4] -> their exponentials, relative to `top`.
  template <int Count>
  __device__ void step(float (&s)[Count]) {
    float best[2][2] = {{s[0], s[1]}, {s[2], s[3]}};
#pragma unroll
    for (int j = 4; j < Count; j += 4) {
      best[0][0] = fmaxf(best[0][0], s[j]);
      best[0][1] = fmaxf(best[0][1], s[j + 1]);
      best[1][0] = fmaxf(best[1][0], s[j + 2]);
      best[1][1] = fmaxf(best[1][1], s[j + 3]);
    }
    const float new_top[2] = {quad_max(fmaxf(best[0][0], best[0][1])), quad_max(fmaxf(best[1][0], best[1][1]))};
    rescale = __any_sync(0xffffffff, new_top[0] > top[0] + lag || new_top[1] > top[1] + lag);
    if (rescale) {
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        const float next = fmaxf(top[h], new_top[h]);
        factor[h] = top[h] == -INFINITY ? 0.f : exp2_fast((top[h] - next) * scale);
        sum[h] *= factor[h];
        top[h] = next;
      }
    }
    // A row that has seen no key yet keeps exponentials of 0: exp2(-inf - 0).
    const float base[2] = {top[0] == -INFINITY ? 0.f : top[0] * scale, top[1] == -INFINITY ? 0.f : top[1] * scale};
    float part[2][2] = {};
#pragma unroll
    for (int j = 0; j < Count; ++j) {
      const int h = (j >> 1) & 1;
      s[j] = exp2_fast(fmaf(s[j], scale, -base[h]));
      part[h][j & 1] += s[j];
    }
    sum[0] += part[0][0] + part[0][1];
    sum[1] += part[1][0] + part[1][1];
  }

  /// Multiplies the output so far when the last step moved the maximum.
  template <int Count>
  __device__ void rescale_output(float (&o)[Count]) const {
    if (!rescale) return;
#pragma unroll
    for (int j = 0; j < Count; ++j) o[j] *= factor[(j >> 1) & 1];
  }

  /// Sums over the row; returns what the output must be multiplied by, 0 for a row without keys.
  __device__ void finish(float (&inverse)[2], float (&lse)[2]) {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const float total = quad_sum(sum[h]);
      inverse[h] = total > 0.f ? __fdividef(1.f, total) : 0.f;
      lse[h] = total > 0.f ? (top[h] * scale + log2f(total)) * 0.69314718056f : -INFINITY;
    }
  }
};

}  // namespace longhaul::cuda
