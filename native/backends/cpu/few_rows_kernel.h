// Attention of a few query rows: products that read keys and values as they lie, and online softmax.
#pragma once

#include "vec.h"

namespace {

/// Largest of s [n], n > 0; s may be read up to the next multiple of W.
LONGHAUL_INLINE float row_maximum(const float* s, int64_t n) {
  Vec top, v;
  fill(-__builtin_inff(), top);
  int64_t j = 0;
  for (; j + W <= n; j += W) {
    load(s + j, v);
    top = v > top ? v : top;
  }
  if (j < n) {
    load(s + j, v);
    keep_first(n - j, -__builtin_inff(), v);
    top = v > top ? v : top;
  }
  return max_lanes(top);
}

/// s [n] = exp(s - maximum), and the sum of them; s may be touched up to the next multiple of W.
LONGHAUL_INLINE float exponentiate(float* s, int64_t n, float maximum) {
  Vec total = {}, v;
  int64_t j = 0;
  for (; j + W <= n; j += W) {
    load(s + j, v);
    v = v - maximum;
    exp_in_place(v);
    total += v;
    store(s + j, v);
  }
  if (j < n) {
    load(s + j, v);
    v = v - maximum;
    keep_first(n - j, -__builtin_inff(), v);
    exp_in_place(v);
    total += v;
    store(s + j, v);
  }
  return sum_lanes(total);
}

void scale_row(const float* x, float factor, int64_t n, float* out) {
  int64_t i = 0;
  for (; i + W <= n; i += W) {
    Vec v;
    load(x + i, v);
    store(out + i, v * factor);
  }
  for (; i < n; ++i) out[i] = x[i] * factor;
}

void softmax_step(float* s, int64_t lds, int64_t rows, const int64_t* limits, int64_t end,
                  float* maximum, float* sum, float* out, int64_t ldo, int64_t d) {
  for (int64_t i = 0; i < rows; ++i, s += lds, out += ldo) {
    const int64_t n = limits[i];
    float top = maximum[i];
    if (n > 0) {
      const float here = row_maximum(s, n);
      top = here > top ? here : top;
    }
    if (n == 0 || top == -__builtin_inff()) {  // nothing visible, or every logit is -inf
      for (int64_t j = 0; j < end; ++j) s[j] = 0.f;
      continue;
    }
    if (top > maximum[i]) {
      Vec shrink;
      fill(maximum[i] - top, shrink);
      exp_in_place(shrink);
      sum[i] *= shrink[0];
      scale_row(out, shrink[0], d, out);
      maximum[i] = top;
    }
    sum[i] += exponentiate(s, n, top);
    for (int64_t j = n; j < end; ++j) s[j] = 0.f;
  }
}

typedef float Quad __attribute__((vector_size(16)));
typedef float LooseQuad __attribute__((vector_size(16), aligned(4), may_alias));

/// Adds the upper half of v to its lower one until four lanes are left.
LONGHAUL_INLINE void to_quad(const Vec& v, Quad& out) {
  float lanes[W];
  store(lanes, v);
  out = *reinterpret_cast<const LooseQuad*>(lanes);
  for (int64_t i = 4; i < W; i += 4) out += *reinterpret_cast<const LooseQuad*>(lanes + i);
}

/// out [4] = the sums of the lanes of four vectors.
LONGHAUL_INLINE void sum_lanes_of_four(const Vec (&v)[4], float* out) {
#if defined(__x86_64__)
  Quad q[4];
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) to_quad(v[i], q[i]);
  const Quad low = _mm_unpacklo_ps(q[0], q[1]) + _mm_unpackhi_ps(q[0], q[1]);
  const Quad high = _mm_unpacklo_ps(q[2], q[3]) + _mm_unpackhi_ps(q[2], q[3]);
  *reinterpret_cast<LooseQuad*>(out) = _mm_movelh_ps(low, high) + _mm_movehl_ps(high, low);
#else
  for (int i = 0; i < 4; ++i) out[i] = sum_lanes(v[i]);
#endif
}

/// s [R, 4] = q [R, d] * k [4, d]^T: four keys at a time, whose chains of additions run side by side.
template <int R>
LONGHAUL_INLINE void dot_four_keys(const float* q, int64_t ldq, const float* k, int64_t ldk, int64_t d, float* s,
                                   int64_t lds) {
  Vec sum[R][4] = {};
  int64_t i = 0;
  for (; i + W <= d; i += W) {
    Vec a[R], b;
#pragma GCC unroll 2
    for (int r = 0; r < R; ++r) load(q + r * ldq + i, a[r]);
#pragma GCC unroll 4
    for (int n = 0; n < 4; ++n) {
      load(k + n * ldk + i, b);
#pragma GCC unroll 2
      for (int r = 0; r < R; ++r) sum[r][n] += a[r] * b;
    }
  }
#pragma GCC unroll 2
  for (int r = 0; r < R; ++r) {
    sum_lanes_of_four(sum[r], s + r * lds);
    for (int64_t j = i; j < d; ++j)
      for (int n = 0; n < 4; ++n) s[r * lds + n] += q[r * ldq + j] * k[n * ldk + j];
  }
}

LONGHAUL_INLINE float dot(const float* q, const float* k, int64_t d) {
  Vec sum = {}, a, b;
  int64_t i = 0;
  for (; i + W <= d; i += W) {
    load(q + i, a);
    load(k + i, b);
    sum += a * b;
  }
  float total = sum_lanes(sum);
  for (; i < d; ++i) total += q[i] * k[i];
  return total;
}

/// Rows are parts of longer ones, which the processor's own prefetching does not foresee.
LONGHAUL_INLINE void prefetch_rows(const float* x, int64_t ldx, int64_t rows, int64_t d) {
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t i = 0; i < d; i += 16) __builtin_prefetch(x + r * ldx + i);
}
constexpr int64_t kAhead = 8;  // rows

void dots(const float* q, int64_t ldq, int64_t rows, const float* k, int64_t ldk, int64_t keys,
          int64_t d, float* s, int64_t lds) {
  int64_t j = 0;
  for (; j + 4 <= keys; j += 4, k += 4 * ldk) {
    prefetch_rows(k + kAhead * ldk, ldk, 4, d);
    int64_t r = 0;
    for (; r + 2 <= rows; r += 2) dot_four_keys<2>(q + r * ldq, ldq, k, ldk, d, s + r * lds + j, lds);
    if (r < rows) dot_four_keys<1>(q + r * ldq, ldq, k, ldk, d, s + r * lds + j, lds);
  }
  for (; j < keys; ++j, k += ldk)
    for (int64_t r = 0; r < rows; ++r) s[r * lds + j] = dot(q + r * ldq, k, d);
}

/// out [R, N * W] += p [R, keys] * v [keys, N * W]
template <int R, int N>
LONGHAUL_INLINE void weigh_columns(const float* p, int64_t ldp, const float* v, int64_t ldv, int64_t keys, float* out,
                                   int64_t ldo) {
  Vec sum[R][N], x;
#pragma GCC unroll 2
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
    for (int n = 0; n < N; ++n) load(out + r * ldo + n * W, sum[r][n]);
  for (int64_t j = 0; j < keys; ++j, v += ldv) {
    prefetch_rows(v + kAhead * ldv, ldv, 1, N * W);
#pragma GCC unroll 4
    for (int n = 0; n < N; ++n) {
      load(v + n * W, x);
#pragma GCC unroll 2
      for (int r = 0; r < R; ++r) sum[r][n] += p[r * ldp + j] * x;
    }
  }
#pragma GCC unroll 2
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
    for (int n = 0; n < N; ++n) store(out + r * ldo + n * W, sum[r][n]);
}

template <int R>
LONGHAUL_INLINE void weigh_rows(const float* p, int64_t ldp, const float* v, int64_t ldv, int64_t keys, int64_t d,
                                float* out, int64_t ldo) {
  int64_t i = 0;
  for (; i + 4 * W <= d; i += 4 * W) weigh_columns<R, 4>(p, ldp, v + i, ldv, keys, out + i, ldo);
  for (; i + W <= d; i += W) weigh_columns<R, 1>(p, ldp, v + i, ldv, keys, out + i, ldo);
  for (; i < d; ++i)
    for (int64_t r = 0; r < R; ++r)
      for (int64_t j = 0; j < keys; ++j) out[r * ldo + i] += p[r * ldp + j] * v[j * ldv + i];
}

void weigh(const float* p, int64_t ldp, int64_t rows, const float* v, int64_t ldv, int64_t keys,
           int64_t d, float* out, int64_t ldo) {
  int64_t r = 0;
  for (; r + 2 <= rows; r += 2) weigh_rows<2>(p + r * ldp, ldp, v, ldv, keys, d, out + r * ldo, ldo);
  if (r < rows) weigh_rows<1>(p + r * ldp, ldp, v, ldv, keys, d, out + r * ldo, ldo);
}

}  // namespace
