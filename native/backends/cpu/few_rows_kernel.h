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

/// N keys at a time, so that N chains of additions run side by side.
template <int N>
LONGHAUL_INLINE void dot_keys(const float* q, const float* k, int64_t ldk, int64_t d, float* s) {
  Vec sum[N] = {};
  int64_t i = 0;
  for (; i + W <= d; i += W) {
    Vec a, b;
    load(q + i, a);
#pragma GCC unroll 8
    for (int n = 0; n < N; ++n) {
      load(k + n * ldk + i, b);
      sum[n] += a * b;
    }
  }
#pragma GCC unroll 8
  for (int n = 0; n < N; ++n) {
    float total = sum_lanes(sum[n]);
    for (int64_t j = i; j < d; ++j) total += q[j] * k[n * ldk + j];
    s[n] = total;
  }
}

void dots(const float* q, int64_t ldq, int64_t rows, const float* k, int64_t ldk, int64_t keys,
          int64_t d, float* s, int64_t lds) {
  int64_t j = 0;
  for (; j + 4 <= keys; j += 4)
    for (int64_t r = 0; r < rows; ++r) dot_keys<4>(q + r * ldq, k + j * ldk, ldk, d, s + r * lds + j);
  for (; j < keys; ++j)
    for (int64_t r = 0; r < rows; ++r) dot_keys<1>(q + r * ldq, k + j * ldk, ldk, d, s + r * lds + j);
}

/// out [N * W] += p [keys] * v [keys, N * W]
template <int N>
LONGHAUL_INLINE void weigh_columns(const float* p, const float* v, int64_t ldv, int64_t keys, float* out) {
  Vec sum[N], x;
#pragma GCC unroll 8
  for (int n = 0; n < N; ++n) load(out + n * W, sum[n]);
  for (int64_t j = 0; j < keys; ++j) {
#pragma GCC unroll 8
    for (int n = 0; n < N; ++n) {
      load(v + j * ldv + n * W, x);
      sum[n] += p[j] * x;
    }
  }
#pragma GCC unroll 8
  for (int n = 0; n < N; ++n) store(out + n * W, sum[n]);
}

void weigh(const float* p, int64_t ldp, int64_t rows, const float* v, int64_t ldv, int64_t keys,
           int64_t d, float* out, int64_t ldo) {
  for (int64_t r = 0; r < rows; ++r, p += ldp, out += ldo) {
    int64_t i = 0;
    for (; i + 4 * W <= d; i += 4 * W) weigh_columns<4>(p, v + i, ldv, keys, out + i);
    for (; i + W <= d; i += W) weigh_columns<1>(p, v + i, ldv, keys, out + i);
    for (; i < d; ++i)
      for (int64_t j = 0; j < keys; ++j) out[i] += p[j] * v[j * ldv + i];
  }
}

}  // namespace
