// The elementwise ops of a layer, one row at a time.
#pragma once

#include "vec.h"

namespace {

void rmsnorm(const float* x, const float* weight, float epsilon, int64_t n, float* out) {
  Vec sum[4] = {}, v, w;
  int64_t i = 0;
  for (; i + 4 * W <= n; i += 4 * W) {
#pragma GCC unroll 4
    for (int u = 0; u < 4; ++u) {
      load(x + i + u * W, v);
      sum[u] += v * v;
    }
  }
  float total = sum_lanes((sum[0] + sum[1]) + (sum[2] + sum[3]));
  for (; i < n; ++i) total += x[i] * x[i];
  const float factor = 1.f / __builtin_sqrtf(total / static_cast<float>(n) + epsilon);
  for (i = 0; i + W <= n; i += W) {
    load(x + i, v);
    load(weight + i, w);
    store(out + i, v * factor * w);
  }
  for (; i < n; ++i) out[i] = x[i] * factor * weight[i];
}

void rotate(float* x, int64_t heads, int64_t d, const float* cos, const float* sin) {
  const int64_t half = d / 2;
  for (int64_t h = 0; h < heads; ++h, x += d) {
    int64_t i = 0;
    for (; i + W <= half; i += W) {
      Vec a, b, c, s;
      load(x + i, a);
      load(x + half + i, b);
      load(cos + i, c);
      load(sin + i, s);
      store(x + i, a * c - b * s);
      store(x + half + i, b * c + a * s);
    }
    for (; i < half; ++i) {
      const float a = x[i], b = x[half + i];
      x[i] = a * cos[i] - b * sin[i];
      x[half + i] = b * cos[i] + a * sin[i];
    }
  }
}

/// v = v / (1 + exp(-v))
LONGHAUL_INLINE void silu_in_place(Vec& v) {
  Vec e = -v;
  exp_in_place(e);
  v = v / (e + 1.f);
}

/// The last n < W floats of a row, zero padded into a vector.
LONGHAUL_INLINE void load_part(const float* x, int64_t n, Vec& v) {
  float lanes[W] = {};
  for (int64_t i = 0; i < n; ++i) lanes[i] = x[i];
  load(lanes, v);
}
LONGHAUL_INLINE void store_part(float* x, int64_t n, const Vec& v) {
  for (int64_t i = 0; i < n; ++i) x[i] = v[i];
}

/// out [n] = f(x), f in place on a vector; out may be x.
template <class F>
LONGHAUL_INLINE void each_vector(const float* x, int64_t n, float* out, const F& f) {
  Vec v;
  int64_t i = 0;
  for (; i + W <= n; i += W) {
    load(x + i, v);
    f(v);
    store(out + i, v);
  }
  if (i < n) {
    load_part(x + i, n - i, v);
    f(v);
    store_part(out + i, n - i, v);
  }
}

void silu(float* x, int64_t n) {
  each_vector(x, n, x, [](Vec& v) { silu_in_place(v); });
}

void exp_row(const float* x, int64_t n, float* out) {
  each_vector(x, n, out, [](Vec& v) { exp_in_place(v); });
}

void swiglu(const float* gate, const float* up, int64_t n, float* out) {
  Vec g, u;
  int64_t i = 0;
  for (; i + W <= n; i += W) {
    load(gate + i, g);
    load(up + i, u);
    silu_in_place(g);
    store(out + i, g * u);
  }
  if (i < n) {
    load_part(gate + i, n - i, g);
    load_part(up + i, n - i, u);
    silu_in_place(g);
    store_part(out + i, n - i, g * u);
  }
}

}  // namespace
