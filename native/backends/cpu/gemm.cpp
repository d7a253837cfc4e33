#include "gemm.h"

#include <algorithm>
#include <cstring>

namespace longhaul::cpu {
namespace {

// With few rows there is nothing to reuse a panel for, and whole panels are one long stream.
constexpr int64_t kFewRows = 16;
// Rows of the copied block start at different cache sets whatever the stride of x.
constexpr int64_t kPad = 16;

}  // namespace

void gemm_part(const Kernels& kernels, Scratch& scratch, const Matrix& x, int64_t first, int64_t rows,
               const PackedLinear& weight, int64_t panel, int64_t panels, const Matrix& out, bool accumulate) {
  const int64_t in = weight.in(), nr = kernels.columns, end = std::min(weight.panels(), panel + panels);
  // By the rows of all blocks, so that no bit depends on where one ends.
  const bool few = x.rows <= kFewRows;
  const int64_t blocks = few ? 1 : (in + kernels.block_depth - 1) / kernels.block_depth;
  const int64_t depth = round_up((in + blocks - 1) / blocks, 2 * kPairs), stride = depth + kPad;
  const bool halves = kernels.multiply_bf16 != nullptr, widened = weight.paired() && !halves && !few;
  float* block = scratch.floats(rows * stride + (widened ? depth * nr : 0));  // [rows, depth], padded
  float* wide = block + rows * stride;                                        // [depth, NR]
  auto* pairs = reinterpret_cast<uint32_t*>(block);                           // [rows, depth / 2], padded
  for (int64_t k = 0; k < in; k += depth) {
    const int64_t length = std::min(depth, in - k), lines = round_up(length, 2 * kPairs) / 2;
    const bool add = accumulate || k > 0;
    for (int64_t i = 0; i < rows; ++i) {
      const float* from = row(x, first + i) + k;
      if (!halves) {
        std::memcpy(block + i * stride, from, static_cast<size_t>(length) * sizeof(float));
        continue;
      }
      kernels.to_bf16(from, length, pairs + i * stride);
      std::fill(pairs + i * stride + (length + 1) / 2, pairs + i * stride + lines, 0u);
    }
    for (int64_t p = panel; p < end; ++p) {
      const int64_t column = p * nr, n = std::min(nr, weight.out() - column);
      const float* bias = k == 0 && weight.bias() != nullptr ? weight.bias() + column : nullptr;
      float* to = row(out, first) + column;
      if (!weight.paired()) {
        const float* b = weight.panel(p) + k * nr;
        kernels.multiply(block, stride, rows, length, b, n, to, out.stride, bias, add,
                         p + 1 < end ? weight.panel(p + 1) + k * nr : b, length * nr * int64_t{sizeof(float)});
        continue;
      }
      const uint32_t* b = weight.paired_panel(p) + k / 2 * nr;
      const uint32_t* next = p + 1 < end ? weight.paired_panel(p + 1) + k / 2 * nr : b;
      const int64_t bytes = lines * nr * int64_t{sizeof(uint32_t)};
      if (halves) {
        kernels.multiply_bf16(pairs, stride, rows, lines, b, n, to, out.stride, bias, add);
      } else if (!widened) {
        kernels.multiply_pairs(block, stride, rows, length, b, n, to, out.stride, bias, add, next, bytes);
      } else {
        kernels.widen(b, lines, wide);
        kernels.multiply(block, stride, rows, length, wide, n, to, out.stride, bias, add, next, bytes);
      }
    }
  }
}

void gemm(Context& context, const Matrix& x, const PackedLinear& weight, const Matrix& out, bool accumulate) {
  require(x.columns == weight.in() && out.columns == weight.out() && x.rows == out.rows,
          "gemm: x, weight and out differ in shape");
  const int64_t threads = context.pool.threads(), most = context.kernels.block_rows, step = context.kernels.rows;
  // Row blocks of one size, as many for each thread; few of them are shared out by columns.
  const int64_t wanted = x.rows <= most ? 1 : round_up((x.rows + most - 1) / most, threads);
  const int64_t rows = std::max(step, round_up((x.rows + wanted - 1) / wanted, step));
  const int64_t row_blocks = (x.rows + rows - 1) / rows;
  const int64_t column_blocks =
      threads == 1 || row_blocks >= 2 * threads ? 1 : std::min(weight.panels(), 4 * threads / std::max<int64_t>(row_blocks, 1));
  const int64_t panels = (weight.panels() + column_blocks - 1) / column_blocks;
  const double work = 2.0 * static_cast<double>(x.rows) * static_cast<double>(weight.in() * weight.out());
  context.pool.run(row_blocks * column_blocks, work > kWorthWaking, [&](int64_t item, int worker) {
    const int64_t first = item / column_blocks * rows, panel = item % column_blocks * panels;
    if (panel >= weight.panels()) return;
    gemm_part(context.kernels, context.scratch[static_cast<size_t>(worker)], x, first, std::min(rows, x.rows - first),
              weight, panel, std::min(panels, weight.panels() - panel), out, accumulate);
  });
}

void gemm_slice(const Matrix& x, const PackedLinear& weight, const Backend::Slice& slice, const Matrix& out) {
  require(x.columns == slice.ins && out.columns == slice.outs && x.rows == out.rows && slice.first_in + slice.ins <= weight.in() &&
              slice.first_out + slice.outs <= weight.out(),
          "gemm_slice: x, weight, slice and out differ in shape");
  for (int64_t i = 0; i < x.rows; ++i)
    for (int64_t o = 0; o < slice.outs; ++o) {
      const float* from = static_cast<const float*>(x.data) + i * x.stride;
      float sum = weight.bias() && slice.first_in == 0 ? weight.bias()[slice.first_out + o] : 0;
      for (int64_t k = 0; k < slice.ins; ++k) sum += from[k] * weight.at(slice.first_out + o, slice.first_in + k);
      static_cast<float*>(out.data)[i * out.stride + o] = sum;
    }
}

}  // namespace longhaul::cpu
