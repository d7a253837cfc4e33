#include "rotary.h"

#include <algorithm>
#include <cmath>

namespace longhaul::cpu {

void Rotary::prepare(Context& context, std::span<const int32_t> positions, const Rope& rope) {
  const auto half = static_cast<int64_t>(rope.inverse_frequencies.size());
  const auto n = static_cast<int64_t>(positions.size());
  float* table = table_.floats(n * 2 * half);
  if (std::ranges::equal(positions, positions_) && rope.inverse_frequencies == frequencies_) return;
  positions_.clear();  // until the table is whole it belongs to no positions
  const double work = 100.0 * static_cast<double>(n * half);
  context.pool.run(n, work > kWorthWaking, [&](int64_t t, int) {
    float* at = table + t * 2 * half;
    for (int64_t i = 0; i < half; ++i) {
      // In double: at position 1e6 a float angle would be off by 0.03 radians.
      const double angle = positions[static_cast<size_t>(t)] * rope.inverse_frequencies[static_cast<size_t>(i)];
      at[i] = static_cast<float>(std::cos(angle));
      at[half + i] = static_cast<float>(std::sin(angle));
    }
  });
  frequencies_ = rope.inverse_frequencies;
  positions_.assign(positions.begin(), positions.end());
}

void Rotary::apply(Context& context, const Matrix& x, int64_t heads, std::span<const int32_t> positions,
                   const Rope& rope) {
  const auto half = static_cast<int64_t>(rope.inverse_frequencies.size());
  require(x.rows == static_cast<int64_t>(positions.size()), "rope: one position per row");
  require(x.columns == heads * 2 * half, "rope: x differs in shape from the heads and frequencies");
  if (x.rows == 0) return;
  prepare(context, positions, rope);
  const float* table = table_.floats(x.rows * 2 * half);
  context.pool.run(x.rows, 4.0 * static_cast<double>(x.rows * x.columns) > kWorthWaking, [&](int64_t t, int) {
    const float* at = table + t * 2 * half;
    context.kernels.rotate(row(x, t), heads, 2 * half, at, at + half);
  });
}

}  // namespace longhaul::cpu
