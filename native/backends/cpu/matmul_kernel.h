// The register-blocked product that GEMM and attention are made of.
#pragma once

#include "vec.h"

namespace {

constexpr int64_t MR = LONGHAUL_ROWS;
constexpr int64_t NR = 2 * W;

/// c [R, NR] (+)= a [R, k] * b [k, NR] + bias. R * U * 2 accumulators live in registers; U > 1
/// splits k so that tiles of few rows do not wait for the latency of one chain of additions.
/// Not inlined: the accumulators need all registers, which a caller's variables would share.
template <int R, int U>
__attribute__((noinline)) void product_tile(const float* a, int64_t lda, int64_t k, const float* b, float* c, int64_t ldc,
                  const float* bias, bool accumulate) {
  Vec sum[U][R][2] = {};
  int64_t i = 0;
  for (; i + U <= k; i += U, b += U * NR) {
#pragma GCC unroll 4
    for (int u = 0; u < U; ++u) {
      Vec b0, b1;
      load(b + u * NR, b0);
      load(b + u * NR + W, b1);
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) {
        const float x = a[r * lda + i + u];
        sum[u][r][0] += x * b0;
        sum[u][r][1] += x * b1;
      }
    }
  }
  for (; i < k; ++i, b += NR) {
    Vec b0, b1;
    load(b, b0);
    load(b + W, b1);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      sum[0][r][0] += a[r * lda + i] * b0;
      sum[0][r][1] += a[r * lda + i] * b1;
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 2
    for (int j = 0; j < 2; ++j) {
      float* to = c + r * ldc + j * W;
      Vec total = sum[0][r][j], other;
#pragma GCC unroll 4
      for (int u = 1; u < U; ++u) total += sum[u][r][j];
      if (bias != nullptr) load(bias + j * W, other), total += other;
      if (accumulate) load(to, other), total += other;
      store(to, total);
    }
  }
}

/// product_tile<R> for a number of rows that is only known at run time.
template <int R>
LONGHAUL_INLINE void product_rows(int64_t rows, const float* a, int64_t lda, int64_t k,
                                  const float* b, float* c, int64_t ldc, const float* bias,
                                  bool accumulate) {
  if (rows == R) return product_tile<R, (R <= 2 ? 4 : R <= 3 ? 2 : 1)>(a, lda, k, b, c, ldc, bias, accumulate);
  if constexpr (R > 1) product_rows<R - 1>(rows, a, lda, k, b, c, ldc, bias, accumulate);
}

/// As Kernels::multiply. Panels outside, rows inside: a panel stays in the first-level cache.
void multiply(const float* a, int64_t lda, int64_t rows, int64_t k, const float* b,
              int64_t panel_stride, int64_t n, float* c, int64_t ldc, const float* bias,
              bool accumulate) {
  for (int64_t j = 0; j < n; j += NR, b += panel_stride) {
    const int64_t width = n - j < NR ? n - j : NR;
    for (int64_t i = 0; i < rows; i += MR) {
      const int64_t height = rows - i < MR ? rows - i : MR;
      float* to = c + i * ldc + j;
      if (width == NR) {
        product_rows<MR>(height, a + i * lda, lda, k, b, to, ldc, bias ? bias + j : nullptr, accumulate);
        continue;
      }
      float edge[MR * NR];  // [height, NR]: the tile that would reach over the end of c
      product_rows<MR>(height, a + i * lda, lda, k, b, edge, NR, nullptr, false);
      for (int64_t r = 0; r < height; ++r)
        for (int64_t m = 0; m < width; ++m)
          to[r * ldc + m] = edge[r * NR + m] + (bias ? bias[j + m] : 0.f) + (accumulate ? to[r * ldc + m] : 0.f);
    }
  }
}

}  // namespace
