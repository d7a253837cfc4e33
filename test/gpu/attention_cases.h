// Attention calls on the GPU with random inputs, and what the textbook says of them.
#pragma once

#include <cuda_bf16.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "backends/cuda/attention.h"

namespace attention_cases {

using namespace longhaul;
using namespace longhaul::cuda;

/// Rows of bfloat16 in host memory, `stride` elements apart; the gaps hold NaN.
struct Rows {
  Rows(int64_t rows, int64_t columns, int64_t stride) : rows(rows), columns(columns), stride(stride), data(static_cast<size_t>(rows * stride), 0x7fff) {}
  float at(int64_t i, int64_t j) const { return __bfloat162float(__nv_bfloat16(__nv_bfloat16_raw{data[static_cast<size_t>(i * stride + j)]})); }

  int64_t rows, columns, stride;
  std::vector<uint16_t> data;
};

struct PieceOfCase {
  int64_t rows;
  bool causal;
  int64_t spare = 0;  // rows more in memory than `rows`, which only the device's count hides
};

struct Case {
  AttentionShape shape;
  std::vector<PieceOfCase> pieces;
  float scale = 1.f;     // of queries and keys
  bool in_place = false; // out is q
  int64_t gap = 8;       // elements between rows
  uint64_t seed = 1;
  std::string name() const;
};

enum class Path { Any, Forward, Decode };

/// What came back: out [T, NQ*D] as floats, lse [T, NQ].
struct Result {
  std::vector<float> out, lse;
};

class Inputs {
 public:
  explicit Inputs(const Case& c);
  /// Runs on the GPU. Throws when a kernel fails, or a byte beside the result changed.
  Result run(Path path) const;
  /// The same in double, of some query rows (all when `every` is 1).
  Result expect(int64_t every) const;
  /// The same by the CPU backend.
  Result cpu() const;
  const Case& of;
  Rows q;
  std::vector<Rows> keys, values;
};

/// || got - want || / || want || over the rows that `want` has (NaN never passes a comparison).
struct Errors {
  double out, worst_row, lse;
};
Errors compare(const Case& c, const Result& got, const Result& want, int64_t every);

}  // namespace attention_cases
