// The register-blocked product that GEMM and attention are made of.
#pragma once

#include "vec.h"

namespace {

constexpr int64_t MR = LONGHAUL_ROWS;
constexpr int64_t NR = 2 * W;

/// v [W] = row `i` of b [k, NR] from column `j` on.
LONGHAUL_INLINE void load_row(const float* b, int64_t i, int64_t j, Vec& v) { load(b + i * NR + j, v); }

template <class B>
constexpr int kRowsPerLine = 1;

/// The same of rows of bfloat16 in pairs, [k / 2, NR] words: the even row in the lower halves. Exact.
LONGHAUL_INLINE void load_row(const uint32_t* b, int64_t i, int64_t j, Vec& v) {
  const Bits pairs = *reinterpret_cast<const LooseBits*>(b + i / 2 * NR + j);
  v = (Vec)(i % 2 == 0 ? pairs << 16 : pairs & 0xffff0000u);
}
template <>
constexpr int kRowsPerLine<uint32_t> = 2;

/// Bytes that will be wanted soon, fetched step by step of k. Shorter than a line: most fetches find it there.
struct Ahead {
  const char* from;
  int64_t step;
};

/// c [R, NR] (+)= a [R, k] * b [k, NR] + bias, with b as either load_row reads it; both give the same
/// bits. R * U * 2 accumulators live in registers; U > 1 splits k so that tiles of few rows do not
/// wait for the latency of one chain of additions.
/// Not inlined: the accumulators need all registers, which a caller's variables would share.
template <int R, int U, class B>
__attribute__((noinline)) void product_tile(const float* a, int64_t lda, int64_t k, const B* b, float* c, int64_t ldc,
                                            const float* bias, bool accumulate, Ahead ahead) {
  constexpr int kStep = U > kRowsPerLine<B> ? U : kRowsPerLine<B>;
  for (int r = 0; r < R; ++r) __builtin_prefetch(c + r * ldc, 1), __builtin_prefetch(c + r * ldc + W, 1);
  Vec sum[U][R][2] = {}, b0, b1;
  int64_t i = 0;
  for (; i + kStep <= k; i += kStep) {
    __builtin_prefetch(ahead.from, 0, 2);
    ahead.from += ahead.step;
#pragma GCC unroll 4
    for (int u = 0; u < kStep; ++u) {
      load_row(b, u, 0, b0);
      load_row(b, u, W, b1);
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) {
        const float x = a[r * lda + i + u];
        sum[u % U][r][0] += x * b0;
        sum[u % U][r][1] += x * b1;
      }
    }
    b += kStep / kRowsPerLine<B> * NR;
  }
  for (int64_t u = 0; i + u < k; ++u) {
    load_row(b, u, 0, b0);
    load_row(b, u, W, b1);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      sum[0][r][0] += a[r * lda + i + u] * b0;
      sum[0][r][1] += a[r * lda + i + u] * b1;
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

/// product_tile<R, ..> for a number of rows that is only known at run time.
template <int R, class B>
LONGHAUL_INLINE void product_rows(int64_t rows, const float* a, int64_t lda, int64_t k, const B* b, float* c,
                                  int64_t ldc, const float* bias, bool accumulate, Ahead ahead) {
  if (rows == R)
    return product_tile<R, (R <= 2 ? 4 : R <= 3 ? 2 : 1), B>(a, lda, k, b, c, ldc, bias, accumulate, ahead);
  if constexpr (R > 1) product_rows<R - 1, B>(rows, a, lda, k, b, c, ldc, bias, accumulate, ahead);
}

/// As Kernels::multiply and Kernels::multiply_pairs.
template <class B>
void multiply(const float* a, int64_t lda, int64_t rows, int64_t k, const B* b, int64_t n, float* c, int64_t ldc,
              const float* bias, bool accumulate, const void* next, int64_t next_bytes) {
  const int64_t fetches = (rows + MR - 1) / MR * k;
  Ahead ahead{static_cast<const char*>(next), (next_bytes + fetches - 1) / fetches};
  for (int64_t i = 0; i < rows; i += MR, ahead.from += k * ahead.step) {
    const int64_t height = rows - i < MR ? rows - i : MR;
    float* to = c + i * ldc;
    if (n == NR) {
      product_rows<MR, B>(height, a + i * lda, lda, k, b, to, ldc, bias, accumulate, ahead);
      continue;
    }
    float edge[MR * NR];  // [height, NR]: the tile that would reach over the end of c
    product_rows<MR, B>(height, a + i * lda, lda, k, b, edge, NR, nullptr, false, ahead);
    for (int64_t r = 0; r < height; ++r)
      for (int64_t m = 0; m < n; ++m)
        to[r * ldc + m] = edge[r * NR + m] + (bias ? bias[m] : 0.f) + (accumulate ? to[r * ldc + m] : 0.f);
  }
}

/// As Kernels::widen.
void widen(const uint32_t* pairs, int64_t lines, float* out) {
  Vec v;
  for (int64_t i = 0; i < 2 * lines; ++i, out += NR) {
    load_row(pairs, i, 0, v);
    store(out, v);
    load_row(pairs, i, W, v);
    store(out + W, v);
  }
}

}  // namespace
