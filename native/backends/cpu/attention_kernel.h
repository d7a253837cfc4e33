// Attention with one query row per vector lane.
//
// Scores are held transposed, [keys, NR], and so is the output, [D, NR]: the softmax of a row runs
// down its own lane without a step across lanes, the scores are at once the right-hand side of the
// product with V, and keys and values need no transposing.
#pragma once

#include "kernels.h"
#include "vec.h"

namespace {

constexpr int64_t AR = LONGHAUL_LANE_ROWS;
constexpr int64_t LANES = 2 * W;

/// c [R, LANES] (+)= a [R, k] * b [k, LANES]; a[r, i] lies at a[r * row + i * step].
template <int R>
__attribute__((noinline)) void lane_product(const float* a, int64_t row, int64_t step, int64_t k, const float* b,
                                            float* c, bool accumulate) {
  Vec sum[R][2] = {};
#pragma GCC unroll 4
  for (int64_t i = 0; i < k; ++i, a += step, b += LANES) {
    Vec b0, b1;
    load(b, b0);
    load(b + W, b1);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      const float x = a[r * row];
      sum[r][0] += x * b0;
      sum[r][1] += x * b1;
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 2
    for (int j = 0; j < 2; ++j) {
      float* to = c + r * LANES + j * W;
      if (accumulate) {
        Vec before;
        load(to, before);
        sum[r][j] += before;
      }
      store(to, sum[r][j]);
    }
  }
}

/// lane_product<rows> of a with rows one after another, for a number of rows known at run time.
template <int R>
LONGHAUL_INLINE void lane_product_rows(int64_t rows, const float* a, int64_t k, const float* b, float* c) {
  if (rows == R) return lane_product<R>(a, 1, AR, k, b, c, true);
  if constexpr (R > 1) lane_product_rows<R - 1>(rows, a, k, b, c);
}

/// v [keys, d], `ldv` apart -> panels [ceil(d / AR)] of [keys, AR]. Padding is zero.
void pack_values(const float* v, int64_t ldv, int64_t keys, int64_t d, float* to) {
  int64_t i = 0;
  for (; i + AR <= d; i += AR)
    for (int64_t j = 0; j < keys; ++j, to += AR)
      for (int64_t r = 0; r < AR; ++r) to[r] = v[j * ldv + i + r];
  if (i == d) return;
  for (int64_t j = 0; j < keys; ++j, to += AR)
    for (int64_t r = 0; r < AR; ++r) to[r] = i + r < d ? v[j * ldv + i + r] : 0.f;
}

/// Hides scores [first, end) of lanes whose limit is lower.
LONGHAUL_INLINE void mask(float* s, int64_t first, int64_t end, const float* limits) {
  Vec limit0, limit1, hidden, v;
  load(limits, limit0);
  load(limits + W, limit1);
  fill(-__builtin_inff(), hidden);
  for (int64_t j = first; j < end; ++j) {
    Vec key;
    fill(static_cast<float>(j), key);
    load(s + j * LANES, v);
    store(s + j * LANES, key < limit0 ? v : hidden);
    load(s + j * LANES + W, v);
    store(s + j * LANES + W, key < limit1 ? v : hidden);
  }
}

/// Brings sum and out to a new reference in lanes where the old one is too low for scores up to `top`.
LONGHAUL_INLINE void raise(const Vec& top, int64_t d, float* reference, float* sum, float* out) {
  Vec old, now, v;
  load(reference, old);
  now = top * longhaul::cpu::kLog2E;
  // A little above the reference does no harm, and most steps need not touch the output.
  now = now > old + longhaul::cpu::kHeadroom ? now : old;
  const Bits moved = (Bits)(now > old);
  uint32_t any = 0;
  for (int64_t i = 0; i < W; ++i) any |= moved[i];
  if (any == 0) return;
  store(reference, now);
  Vec factor = old - now;
  exp2_in_place(factor);
  load(sum, v);
  store(sum, v * factor);
  for (int64_t i = 0; i < d; ++i) {
    load(out + i * LANES, v);
    store(out + i * LANES, v * factor);
  }
}

/// Scores s [end, LANES] -> 2^(s log2(e) - reference), added up in sum.
LONGHAUL_INLINE void lane_softmax(float* s, int64_t end, int64_t d, float* reference, float* sum, float* out) {
  Vec a, b, top0, top1, total0, total1, reference0, reference1;
  fill(-__builtin_inff(), top0);
  top1 = top0;
  for (int64_t j = 0; j < end; ++j) {
    load(s + j * LANES, a);
    load(s + j * LANES + W, b);
    greater(a, top0, top0);
    greater(b, top1, top1);
  }
  raise(top0, d, reference, sum, out);
  raise(top1, d, reference + W, sum + W, out + W);
  load(reference, reference0);
  load(reference + W, reference1);
  load(sum, total0);
  load(sum + W, total1);
  for (int64_t j = 0; j < end; ++j) {
    load(s + j * LANES, a);
    load(s + j * LANES + W, b);
    a = a * longhaul::cpu::kLog2E - reference0;
    b = b * longhaul::cpu::kLog2E - reference1;
    exp2_in_place(a);
    exp2_in_place(b);
    total0 += a;
    total1 += b;
    store(s + j * LANES, a);
    store(s + j * LANES + W, b);
  }
  store(sum, total0);
  store(sum + W, total1);
}

/// As Kernels::attend.
void attend(const longhaul::cpu::LanePanel& panel, const longhaul::cpu::KeyBlock& block, int64_t d, int64_t end,
            const float* limits, int64_t lowest_limit) {
  for (int64_t j = 0; j < end; j += AR)
    lane_product<AR>(block.keys + j * d, d, 1, d, panel.q, panel.scores + j * LANES, false);
  if (limits != nullptr) mask(panel.scores, lowest_limit, end, limits);
  lane_softmax(panel.scores, end, d, panel.reference, panel.sum, panel.out);
  const float* values = block.values;
  for (int64_t i = 0; i < d; i += AR, values += AR * block.size)
    lane_product_rows<AR>(d - i < AR ? d - i : AR, values, end, panel.scores, panel.out + i * LANES);
}

}  // namespace
