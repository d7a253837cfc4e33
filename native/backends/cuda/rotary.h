// Rotary position embedding.
#pragma once

#include <cuda_bf16.h>

#include <vector>

#include "memory.h"

namespace longhaul::cuda {

/// Positions of rows: `list` [T] in device memory where it is set, otherwise first, first + 1, ...
struct Positions {
  const int32_t* list = nullptr;
  int32_t first = 0;
};

/// A row that moves while a recorded step is replayed: the device's count of rows, and what it was at recording.
struct MovingRow {
  const int32_t* rows = nullptr;  // null: it does not move
  int32_t recorded = 0;
};

/// Where the parts of a fused row go: q [T, NQ*D] and keys, values [T, NK*D] twice.
struct SplitRows {
  Matrix q, keys, values;
};

class Rotary {
 public:
  explicit Rotary(DevicePtr device) : device_(std::move(device)) {}

  /// Rotates x [T, heads*D] in place: element i of a head pairs with i + D/2.
  void apply(const Matrix& x, int64_t heads, const Positions& positions, const Rope& rope);
  /// Likewise the q and k of qkv [T, (NQ+2NK)*D], while its parts are written to their own matrices: one
  /// pass. Keys and values go as many rows further as `moving` has moved.
  void split(const Matrix& qkv, const Heads& heads, const Positions& positions, const Rope& rope, const SplitRows& out,
             const MovingRow& moving = {});

 private:
  const double* frequencies(const Rope& rope);

  DevicePtr device_;
  std::vector<double> kept_;
  std::unique_ptr<DeviceBuffer> frequencies_;  // [D/2] double
};

}  // namespace longhaul::cuda
