#include "gemm.h"

#include <algorithm>
#include <cstring>

namespace longhaul::cpu {
namespace {

// Columns of x in a block: with 96 rows it takes a fifth of a 512 KiB second-level cache, and a panel
// of W ([256, 16] with AVX2) half of a 32 KiB first-level one.
constexpr int64_t kDepth = 256;
// With few rows there is nothing to reuse a panel for, and whole panels are one long stream.
constexpr int64_t kFewRows = 16;
// Rows of the copied block start at different cache sets whatever the stride of x.
constexpr int64_t kPad = 16;

}  // namespace

void gemm_part(const Kernels& kernels, Scratch& scratch, const Matrix& x, int64_t first, int64_t rows,
               const PackedLinear& weight, int64_t panel, int64_t panels, const Matrix& out, bool accumulate) {
  const int64_t in = weight.in(), nr = kernels.columns, column = panel * nr;
  const int64_t n = std::min(weight.out(), column + panels * nr) - column;
  const int64_t blocks = rows <= kFewRows ? 1 : (in + kDepth - 1) / kDepth;
  const int64_t depth = round_up((in + blocks - 1) / blocks, 2), stride = depth + kPad;
  float* block = scratch.floats(rows * stride);  // [rows, depth], padded
  for (int64_t k = 0; k < in; k += depth) {
    const int64_t length = std::min(depth, in - k);
    const float* bias = k == 0 && weight.bias() != nullptr ? weight.bias() + column : nullptr;
    if (kernels.multiply_bf16 != nullptr) {
      auto* pairs = reinterpret_cast<uint32_t*>(block);  // [rows, depth / 2], padded
      for (int64_t i = 0; i < rows; ++i) kernels.to_bf16(row(x, first + i) + k, length, pairs + i * stride);
      kernels.multiply_bf16(pairs, stride, rows, (length + 1) / 2, weight.bf16_panel(panel) + k / 2 * nr,
                            weight.pairs() * nr, n, row(out, first) + column, out.stride, bias, accumulate || k > 0);
      continue;
    }
    for (int64_t i = 0; i < rows; ++i)
      std::memcpy(block + i * stride, row(x, first + i) + k, static_cast<size_t>(length) * sizeof(float));
    kernels.multiply(block, stride, rows, length, weight.panel(panel) + k * nr, in * nr, n,
                     row(out, first) + column, out.stride, bias, accumulate || k > 0);
  }
}

void gemm(Context& context, const Matrix& x, const PackedLinear& weight, const Matrix& out, bool accumulate) {
  require(x.columns == weight.in() && out.columns == weight.out() && x.rows == out.rows,
          "gemm: x, weight and out differ in shape");
  const int64_t row_blocks = (x.rows + kGemmRows - 1) / kGemmRows;
  // Enough pieces that threads end together; with many row blocks every piece spans all columns.
  const int64_t wanted = 4 * context.pool.threads();
  const int64_t column_blocks =
      context.pool.threads() == 1 || row_blocks >= wanted
          ? 1 : std::min(weight.panels(), (wanted + row_blocks - 1) / std::max<int64_t>(row_blocks, 1));
  const int64_t panels = (weight.panels() + column_blocks - 1) / column_blocks;
  const double work = 2.0 * static_cast<double>(x.rows) * static_cast<double>(weight.in() * weight.out());
  context.pool.run(row_blocks * column_blocks, work > kWorthWaking, [&](int64_t item, int worker) {
    const int64_t first = item / column_blocks * kGemmRows, panel = item % column_blocks * panels;
    if (panel >= weight.panels()) return;
    gemm_part(context.kernels, context.scratch[static_cast<size_t>(worker)], x, first,
              std::min(kGemmRows, x.rows - first), weight, panel, std::min(panels, weight.panels() - panel),
              out, accumulate);
  });
}

}  // namespace longhaul::cpu
