// The table of vector kernels that one instruction set provides.
//
// kernels_portable.cpp, kernels_avx2.cpp and kernels_avx512.cpp compile the same source
// (kernel_table.h) at their width; the backend calls through the table that it was made with.
#pragma once

#include <cstdint>

namespace longhaul::cpu {

/// Attention works on 2^(s log2(e) - reference): this constant, everywhere.
constexpr float kLog2E = 1.44269504f;
/// Reference of a row that has seen no key. Finite, so that no difference of references is NaN.
constexpr float kNoReference = -1e30f;
/// How far scores may exceed the reference (a power of 2) before output and sum are rescaled.
constexpr float kHeadroom = 11.f;

/// Online softmax of one query row of one head per lane; NR lanes.
struct LanePanel {
  const float* q;    // [D, NR], scaled by 1/sqrt(D)
  float* scores;     // [keys of a block, NR], working memory
  float* out;        // [D, NR], unnormalised
  float* reference;  // [NR], in powers of 2; kNoReference at first
  float* sum;        // [NR]
};

/// Packed keys and values of one KV head.
struct KeyBlock {
  const float* keys;    // [size rounded up to AR, D]
  const float* values;  // panels [ceil(D / AR)] of [size, AR], zero padded
  int64_t size;
};

/// Products of bfloat16 take so many pairs at a time; what is missing is zero.
constexpr int64_t kPairs = 16;

struct Kernels {
  const char* name;
  int64_t rows;     // of the register tile of linear layers
  int64_t columns;  // NR: columns of that tile = width of a panel of B = lanes of `attend`

  int64_t block_rows;   // rows of x and columns of it that are worked on at once: what fits into the
  int64_t block_depth;  // second-level cache. block_rows is a multiple of rows

  /// c [rows, n] (+)= a [rows, k] * b [k, NR] + bias [NR]; n <= NR, bias may be null. Meanwhile fetches
  /// the `next_bytes` bytes at `next` into the cache.
  void (*multiply)(const float* a, int64_t lda, int64_t rows, int64_t k, const float* b, int64_t n, float* c,
                   int64_t ldc, const float* bias, bool accumulate, const void* next, int64_t next_bytes);
  /// The same bits where b is bfloat16: [ceil(k / 2), NR] pairs, the even row in the lower half of a
  /// word. For few rows: each tile of them widens b again.
  void (*multiply_pairs)(const float* a, int64_t lda, int64_t rows, int64_t k, const uint32_t* b, int64_t n, float* c,
                         int64_t ldc, const float* bias, bool accumulate, const void* next, int64_t next_bytes);
  /// Lines [lines, NR] of such pairs -> out [2 * lines, NR].
  void (*widen)(const uint32_t* pairs, int64_t lines, float* out);

  int64_t lane_rows;  // AR: rows of the register tiles of `attend`
  /// v [keys, d], rows `ldv` apart -> KeyBlock::values.
  void (*pack_values)(const float* v, int64_t ldv, int64_t keys, int64_t d, float* to);
  /// Attention of a panel to the block's first `end` keys. Lane i sees those below limits[i], and
  /// all of them below lowest_limit; limits null: every lane sees all.
  void (*attend)(const LanePanel& panel, const KeyBlock& block, int64_t d, int64_t end, const float* limits,
                 int64_t lowest_limit);

  /// One step of online softmax for a few rows. s [rows, lds]: row i has `limits[i]` scores,
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
  /// out [n] = exp(x); 0 below -87.33, saturated above 88.37, NaN of NaN. Relative error below 2e-7.
  void (*exp)(const float* x, int64_t n, float* out);

  /// Null unless the table multiplies linear layers in bfloat16.
  /// x [n] -> out [ceil(n / 2)]: pairs of bfloat16, rounded to nearest even.
  void (*to_bf16)(const float* x, int64_t n, uint32_t* out);
  /// c [rows, n] (+)= a [rows, pairs] * b [pairs, NR] + bias [NR], of such pairs, lda in words; sums are
  /// float32. pairs is a multiple of kPairs.
  void (*multiply_bf16)(const uint32_t* a, int64_t lda, int64_t rows, int64_t pairs, const uint32_t* b, int64_t n,
                        float* c, int64_t ldc, const float* bias, bool accumulate);
};

const Kernels& portable_kernels();
const Kernels& avx2_kernels();    // x86-64 only
const Kernels& avx512_kernels();  // x86-64 only
const Kernels& avx512_bf16_kernels();  // x86-64 only
const Kernels& amx_kernels();          // x86-64 only

}  // namespace longhaul::cpu
