// Rows as pairs of bfloat16, and the register-blocked product of such pairs with float32 sums: vdpbf16ps.
//
// Included only where LONGHAUL_BF16 is defined. Compiled without AVX512_BF16 it computes the same in
// plain loops, for tests; with AMX, amx_kernel.h has the product.
#pragma once

#include "matmul_kernel.h"

namespace {

/// Two neighbours of a row, or of a column of W, in one word: the first in the lower half.
/// Rounds to nearest even; NaN stays NaN.
LONGHAUL_INLINE uint32_t bf16_pair(float first, float second) {
  uint32_t bits[2];
  __builtin_memcpy(bits, &first, 4);
  __builtin_memcpy(bits + 1, &second, 4);
  for (uint32_t& b : bits) b = (b & 0x7fffffffu) > 0x7f800000u ? (b >> 16) | 64u : (b + 0x7fffu + (b >> 16 & 1u)) >> 16;
  return bits[0] | bits[1] << 16;
}

void to_bf16(const float* x, int64_t n, uint32_t* out) {
  int64_t i = 0;
#if defined(__AVX512BF16__)
  for (; i + 32 <= n; i += 32)
    _mm512_storeu_si512(out + i / 2, (__m512i)_mm512_cvtne2ps_pbh(_mm512_loadu_ps(x + i + 16), _mm512_loadu_ps(x + i)));
#endif
  for (; i < n; i += 2) out[i / 2] = bf16_pair(x[i], i + 1 < n ? x[i + 1] : 0.f);
}

#if defined(__AMX_BF16__)
}  // namespace

#include "amx_kernel.h"

namespace {
#else
constexpr int64_t BF16_ROWS = MR;

/// sum += the products of both halves of a with those of b, lane by lane.
LONGHAUL_INLINE void add_pairs(uint32_t a, const uint32_t* b, Vec& sum) {
  const Bits pairs = *reinterpret_cast<const LooseBits*>(b);
#if defined(__AVX512BF16__)
  sum = (Vec)_mm512_dpbf16_ps((__m512)sum, (__m512bh)_mm512_set1_epi32((int)a), (__m512bh)pairs);
#else
  float first, second;
  const uint32_t low = a << 16, high = a & 0xffff0000u;
  __builtin_memcpy(&first, &low, 4);
  __builtin_memcpy(&second, &high, 4);
  sum += second * (Vec)(pairs & 0xffff0000u);
  sum += first * (Vec)(pairs << 16);
#endif
}

template <int R>
__attribute__((noinline)) void bf16_tile(const uint32_t* a, int64_t lda, int64_t pairs, const uint32_t* b, float* c,
                                         int64_t ldc) {
  Vec sum[R][2] = {};
  for (int64_t i = 0; i < pairs; ++i, b += NR) {
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      add_pairs(a[r * lda + i], b, sum[r][0]);
      add_pairs(a[r * lda + i], b + W, sum[r][1]);
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
    store(c + r * ldc, sum[r][0]);
    store(c + r * ldc + W, sum[r][1]);
  }
}

template <int R>
LONGHAUL_INLINE void bf16_rows(int64_t rows, const uint32_t* a, int64_t lda, int64_t pairs, const uint32_t* b, float* c,
                               int64_t ldc) {
  if (rows == R) return bf16_tile<R>(a, lda, pairs, b, c, ldc);
  if constexpr (R > 1) bf16_rows<R - 1>(rows, a, lda, pairs, b, c, ldc);
}

/// As Kernels::multiply_bf16.
void multiply_bf16(const uint32_t* a, int64_t lda, int64_t rows, int64_t pairs, const uint32_t* b, int64_t n, float* c,
                   int64_t ldc, const float* bias, bool accumulate) {
  float tile[MR * NR];  // [height, NR]
  for (int64_t i = 0; i < rows; i += MR) {
    const int64_t height = rows - i < MR ? rows - i : MR;
    bf16_rows<MR>(height, a + i * lda, lda, pairs, b, tile, NR);
    for (int64_t r = 0; r < height; ++r) {
      float* to = c + (i + r) * ldc;
      for (int64_t m = 0; m < n; ++m)
        to[m] = tile[r * NR + m] + (bias ? bias[m] : 0.f) + (accumulate ? to[m] : 0.f);
    }
  }
}

#endif

}  // namespace
