// A vector of LONGHAUL_WIDTH floats from the compilers' vector extensions, and exp over it.
//
// Everything here and in the other *_kernel.h files has internal linkage and uses no std::
// template: code compiled with AVX-512 flags must never be merged by the linker into an object
// that a lesser processor runs.
#pragma once

#include <cstdint>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#define LONGHAUL_INLINE static inline __attribute__((always_inline))

namespace {

constexpr int64_t W = LONGHAUL_WIDTH;

typedef float Vec __attribute__((vector_size(W * 4)));
typedef uint32_t Bits __attribute__((vector_size(W * 4)));
typedef float LooseVec __attribute__((vector_size(W * 4), aligned(4), may_alias));
typedef Bits LooseBits __attribute__((aligned(4), may_alias));

LONGHAUL_INLINE void load(const float* p, Vec& v) { v = *reinterpret_cast<const LooseVec*>(p); }
LONGHAUL_INLINE void store(float* p, const Vec& v) { *reinterpret_cast<LooseVec*>(p) = v; }
LONGHAUL_INLINE void fill(float x, Vec& v) {
  for (int64_t i = 0; i < W; ++i) v[i] = x;
}

/// out = a > b ? a : b in each lane: b where one of them is NaN. One instruction on x86-64, which
/// compilers do not make of the comparison.
LONGHAUL_INLINE void greater(const Vec& a, const Vec& b, Vec& out) {
#if defined(__AVX512F__) && LONGHAUL_WIDTH == 16
  out = (Vec)_mm512_maskz_max_ps(0xffff, (__m512)a, (__m512)b);  // unlike _mm512_max_ps without a warning from GCC 12
#elif defined(__AVX__) && LONGHAUL_WIDTH == 8
  out = (Vec)_mm256_max_ps((__m256)a, (__m256)b);
#elif defined(__x86_64__) && LONGHAUL_WIDTH == 4
  out = (Vec)_mm_max_ps((__m128)a, (__m128)b);
#else
  out = a > b ? a : b;
#endif
}

LONGHAUL_INLINE float sum_lanes(const Vec& v) {
  float lanes[W];
  store(lanes, v);
  for (int64_t half = W / 2; half > 0; half /= 2)
    for (int64_t i = 0; i < half; ++i) lanes[i] += lanes[i + half];
  return lanes[0];
}

LONGHAUL_INLINE float max_lanes(const Vec& v) {
  float top = v[0];
  for (int64_t i = 1; i < W; ++i) top = v[i] > top ? v[i] : top;
  return top;
}

/// Keeps the first `count` lanes and puts `other` in the rest.
LONGHAUL_INLINE void keep_first(int64_t count, float other, Vec& v) {
  for (int64_t i = 0; i < W; ++i) v[i] = i < count ? v[i] : other;
}

// Adding it rounds to an integer n and leaves n + 127, the exponent of 2^n, in the low bits.
constexpr float kRound = 12582912.f + 127.f;  // 1.5 * 2^23 + 127

/// out = 2^n * 2^r for r in [-0.5, 0.5], with `rounded` = n + kRound and n in [-126, 127]. NaN stays NaN.
LONGHAUL_INLINE void scaled_exp2(const Vec& rounded, const Vec& r, Vec& out) {
  // (2^r - 1) / r, a minimax polynomial: 2^r is 2e-9 off.
  Vec q = r * 1.535359931e-4f + 1.339885188e-3f;
  q = q * r + 9.618436383e-3f;
  q = q * r + 5.550332547e-2f;
  q = q * r + 2.402264792e-1f;
  q = q * r + 6.931472028e-1f;
  const Vec power = (Vec)((Bits)rounded << 23);
  out = (q * r) * power + power;
}

/// x = 2^x for x below 127; everything below -126 counts as -126. NaN stays NaN.
LONGHAUL_INLINE void exp2_in_place(Vec& x) {
  Vec lowest;
  fill(-126.f, lowest);
  greater(lowest, x, x);
  const Vec rounded = x + kRound;
  scaled_exp2(rounded, x - (rounded - kRound), x);
}

/// x = exp(x), 0 below -87.33, saturated above 88.37. NaN stays NaN.
LONGHAUL_INLINE void exp_in_place(Vec& x) {
  Vec lowest, highest;
  fill(-87.33f, lowest);   // exp() below is no normal number any more
  fill(88.37f, highest);   // rounds to n = 127, the largest exponent
  Vec bounded = x > highest ? highest : x;
  greater(lowest, bounded, bounded);
  const Vec rounded = bounded * 1.44269504f + kRound;
  const Vec n = rounded - kRound;
  // ln2 in two parts; the first has trailing zeros, so that n * 0.693359375 is exact.
  const Vec r = (bounded - n * 0.693359375f) - n * -2.12194440e-4f;
  Vec result;
  scaled_exp2(rounded, r * 1.44269504f, result);
  x = (Vec)((Bits)result & ~(Bits)(x < lowest));
}

}  // namespace
