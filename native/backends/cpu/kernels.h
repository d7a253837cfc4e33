// The table of vector kernels that one instruction set provides.
//
// kernels_portable.cpp, kernels_avx2.cpp and kernels_avx512.cpp compile the same source
// (kernel_table.h) at their width; the backend calls through the table that it was made with.
#pragma once

#include <cstdint>

namespace longhaul::cpu {

struct Kernels {
  const char* name;
  int64_t rows;     // MR: rows of the register tile of `multiply`
  int64_t columns;  // NR: columns of that tile = width of a panel of B

  /// c [rows, n] (+)= a [rows, k] * B [k, n] + bias [n]; bias may be null.
  /// B comes in panels of NR columns, each [k, NR] dense, `panel_stride` floats apart. The last
  /// panel is always NR wide in memory; only its first n mod NR columns are written to c.
  void (*multiply)(const float* a, int64_t lda, int64_t rows, int64_t k, const float* b,
                   int64_t panel_stride, int64_t n, float* c, int64_t ldc, const float* bias,
                   bool accumulate);

  /// One step of online softmax for `rows` rows. s [rows, lds]: row i has `limits[i]` scores,
  /// which become exp(s - maximum[i]); columns limits[i] .. end become 0. maximum, sum [rows] and
  /// the unnormalised out [rows, d] are brought to the new maximum. lds covers `end` rounded up to
  /// a vector of 16.
  void (*softmax_step)(float* s, int64_t lds, int64_t rows, const int64_t* limits, int64_t end,
                       float* maximum, float* sum, float* out, int64_t ldo, int64_t d);

  /// s [rows, keys] = q [rows, d] * k [keys, d]^T, for few rows: k is read once, as it lies.
  void (*dots)(const float* q, int64_t ldq, int64_t rows, const float* k, int64_t ldk, int64_t keys,
               int64_t d, float* s, int64_t lds);
  /// out [rows, d] += p [rows, keys] * v [keys, d], for few rows: v is read as it lies.
  void (*weigh)(const float* p, int64_t ldp, int64_t rows, const float* v, int64_t ldv, int64_t keys,
                int64_t d, float* out, int64_t ldo);

  /// out [n] = x / sqrt(mean(x^2) + epsilon) * weight; out may be x.
  void (*rmsnorm)(const float* x, const float* weight, float epsilon, int64_t n, float* out);
  /// x [heads, d] in place; cos, sin [d/2].
  void (*rotate)(float* x, int64_t heads, int64_t d, const float* cos, const float* sin);
  /// x [n] = silu(x).
  void (*silu)(float* x, int64_t n);
  /// out [n] = silu(gate) * up.
  void (*swiglu)(const float* gate, const float* up, int64_t n, float* out);
  /// out [n] = scale * x.
  void (*scale)(const float* x, float scale, int64_t n, float* out);
  /// out [n] = exp(x); 0 below -87.33, saturated above 88.37. Relative error below 2e-7.
  void (*exp)(const float* x, int64_t n, float* out);
};

const Kernels& portable_kernels();
const Kernels& avx2_kernels();    // x86-64 only
const Kernels& avx512_kernels();  // x86-64 only

}  // namespace longhaul::cpu
