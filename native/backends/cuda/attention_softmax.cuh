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

/// State of a thread's two rows (lane/4 and +8).
///
/// Exponentials are relative to a reference that may lag behind the row's maximum by kLag powers of
/// two: exact all the same, since sum and output carry the same factor. So most tiles need no
/// rescaling, and no exchange between the lanes that share a row, only a vote that none is far above.
struct Softmax {
  static constexpr float kLag = 8.f;

  float scale;  // log2(e) / sqrt(D)
  float lag;    // in logits
  float top[2] = {-INFINITY, -INFINITY};  // the reference, the same in the row's four lanes
  float sum[2] = {0.f, 0.f};              // of this lane's columns

  __device__ explicit Softmax(float scale) : scale(scale), lag(kLag / scale) {}

  /// Maxima of this lane's columns of the tile s [16, 2*Count/4].
  template <int Count>
  __device__ static void maxima(const float (&s)[Count], float (&best)[2]) {
    float part[2][4];
#pragma unroll
    for (int j = 0; j < Count; ++j) {
      float& m = part[j / 2 % 2][j / 4 % 2 * 2 + j % 2];
      m = j < 8 ? s[j] : fmaxf(m, s[j]);
    }
#pragma unroll
    for (int h = 0; h < 2; ++h) best[h] = fmaxf(fmaxf(part[h][0], part[h][1]), fmaxf(part[h][2], part[h][3]));
  }

  /// Whether the reference of any of the warp's rows is too low for these maxima.
  __device__ bool outgrown(const float (&best)[2]) const {
    return __any_sync(0xffffffff, best[0] > top[0] + lag || best[1] > top[1] + lag);
  }

  /// Raises the references. Gives what the output so far must be multiplied by.
  __device__ void raise(const float (&best)[2], float (&factor)[2]) {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const float next = fmaxf(top[h], quad_max(best[h]));
      factor[h] = top[h] == -INFINITY ? 0.f : exp2_fast((top[h] - next) * scale);
      sum[h] *= factor[h];
      top[h] = next;
    }
  }

  /// Exponentials of the tile, in bfloat16 as the first operand of the next product: the accumulator's
  /// layout is the operand's. Adds them to the sum.
  template <int Count>
  __device__ void exponentials(const float (&s)[Count], uint32_t (&p)[Count / 2]) {
    // A row that has seen no key yet keeps exponentials of 0: exp2(-inf - 0).
    const float base[2] = {top[0] == -INFINITY ? 0.f : top[0] * scale, top[1] == -INFINITY ? 0.f : top[1] * scale};
    float part[2][2] = {};
#pragma unroll
    for (int j = 0; j < Count; j += 2) {
      const int h = j / 2 % 2;
      const float low = exp2_fast(fmaf(s[j], scale, -base[h])), high = exp2_fast(fmaf(s[j + 1], scale, -base[h]));
      part[h][0] += low;
      part[h][1] += high;
      p[j / 2] = pack_bf16(low, high);
    }
    sum[0] += part[0][0] + part[0][1];
    sum[1] += part[1][0] + part[1][1];
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
