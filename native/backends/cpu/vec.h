// A vector of LONGHAUL_WIDTH floats from the compilers' vector extensions, and exp over it.
//
// Everything here and in the other *_kernel.h files has internal linkage and uses no std::
// template: code compiled with AVX-512 flags must never be merged by the linker into an object
// that a lesser processor runs.
#pragma once

#include <cstdint>

#define LONGHAUL_INLINE static inline __attribute__((always_inline))

namespace {

constexpr int64_t W = LONGHAUL_WIDTH;

typedef float Vec __attribute__((vector_size(W * 4)));
typedef uint32_t Bits __attribute__((vector_size(W * 4)));
typedef float LooseVec __attribute__((vector_size(W * 4), aligned(4), may_alias));

LONGHAUL_INLINE void load(const float* p, Vec& v) { v = *reinterpret_cast<const LooseVec*>(p); }
LONGHAUL_INLINE void store(float* p, const Vec& v) { *reinterpret_cast<LooseVec*>(p) = v; }
LONGHAUL_INLINE void fill(float x, Vec& v) {
  for (int64_t i = 0; i < W; ++i) v[i] = x;
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

/// x = exp(x): x = n ln2 + r with |r| <= ln2 / 2, then a minimax polynomial of degree 6
/// in r (3e-9 off) times 2^n.
LONGHAUL_INLINE void exp_in_place(Vec& x) {
  constexpr float lowest = -87.33f;   // exp() below is no normal number any more
  constexpr float highest = 88.37f;   // rounds to n = 127, the largest exponent
  constexpr float shift = 12582912.f; // 1.5 * 2^23: adding it rounds to an integer in the low bits
  Vec high;
  fill(highest, high);
  const Vec bounded = x < high ? x : high;
  const Vec shifted = bounded * 1.44269504f + shift;
  const Vec n = shifted - shift;
  // ln2 in two parts; the first has trailing zeros, so that n * 0.693359375 is exact.
  const Vec r = (bounded - n * 0.693359375f) - n * -2.12194440e-4f;
  // e^r = 1 + (r + r^2 q(r)): the small terms first, so that only the last addition rounds at 1.
  Vec q = r * 1.3814174e-3f + 8.3689215e-3f;
  q = q * r + 4.1668408e-2f;
  q = q * r + 1.6666520e-1f;
  q = q * r + 4.9999994e-1f;
  const Vec p = (q * (r * r) + r) + 1.f;
  // Bits of `shifted`: those of `shift` plus n. Moving n to the exponent drops the rest but for
  // the lowest bits of `shift`, which are zero.
  const Bits exponent = (Bits)shifted << 23;
  const Vec result = (Vec)((Bits)p + exponent);
  x = (Vec)((Bits)result & (Bits)(x >= lowest));
}

}  // namespace
