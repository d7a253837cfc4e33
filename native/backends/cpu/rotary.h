// Rotary position embedding with a table of cosines and sines that outlives the call.
#pragma once

#include <span>

#include "context.h"

namespace longhaul::cpu {

class Rotary {
 public:
  /// As Backend::rope.
  void apply(Context& context, const Matrix& x, int64_t heads, std::span<const int32_t> positions,
             const Rope& rope);

 private:
  void prepare(Context& context, std::span<const int32_t> positions, const Rope& rope);

  // All layers of a forward pass rotate q and k at the same positions: the last table is kept.
  std::vector<int32_t> positions_;
  std::vector<double> frequencies_;
  Scratch table_;  // [T, 2, D/2]: cosines, then sines
};

}  // namespace longhaul::cpu
