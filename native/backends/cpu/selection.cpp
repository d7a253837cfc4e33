#include "selection.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <functional>

#include "gemm.h"

namespace longhaul::cpu {
namespace {

/// Orders as the float does, with -0 equal to 0 and NaN below everything.
uint32_t sort_key(float score) {
  if (std::isnan(score)) return 0;
  const auto bits = std::bit_cast<uint32_t>(score + 0.f);  // + 0: turns -0 into 0
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

}  // namespace

void retaining_scores(Context& context, const Matrix& qkv, const PackedLinear& fc1, const PackedLinear& fc2,
                      float* scores) {
  require(qkv.columns == fc1.in() && fc1.out() == fc2.in(), "retaining_scores: qkv, fc1 and fc2 differ in shape");
  const int64_t n = qkv.rows, width = fc1.out(), heads = fc2.out(), most = context.kernels.block_rows;
  const double work = 2.0 * static_cast<double>(n) * static_cast<double>(qkv.columns * width);
  // Block by block, so that the hidden layer [T, R] is never held whole.
  const int64_t size = most * (width + heads);
  float* hidden = context.shared.floats(size * context.pool.threads());
  context.pool.run((n + most - 1) / most, work > kWorthWaking, [&](int64_t item, int worker) {
    const int64_t first = item * most, rows = std::min(most, n - first);
    Scratch& scratch = context.scratch[static_cast<size_t>(worker)];
    const Matrix middle{hidden + worker * size, rows, width, width};                        // [rows, R]
    const Matrix block{hidden + worker * size + most * width, rows, heads, heads};     // [rows, NK]
    const Matrix x{row(qkv, first), rows, qkv.columns, qkv.stride};
    gemm_part(context.kernels, scratch, x, 0, rows, fc1, 0, fc1.panels(), middle, false);
    context.kernels.silu(row(middle, 0), rows * width);
    gemm_part(context.kernels, scratch, middle, 0, rows, fc2, 0, fc2.panels(), block, false);
    for (int64_t i = 0; i < rows; ++i)
      for (int64_t h = 0; h < heads; ++h) scores[h * n + first + i] = row(block, i)[h];
  });
}

void mean_query(const Matrix& q, const Heads& heads, float* mean) {
  const int64_t d = heads.dimension, group = heads.query / heads.key_value;
  require(q.rows > 0 && q.columns == heads.query * d, "mean_query: q differs in shape from the heads");
  for (int64_t h = 0; h < heads.key_value; ++h)
    for (int64_t k = 0; k < d; ++k) {
      double sum = 0;
      for (int64_t i = 0; i < q.rows; ++i)
        for (int64_t g = 0; g < group; ++g) sum += row(q, i)[(h * group + g) * d + k];
      mean[h * d + k] = static_cast<float>(sum / static_cast<double>(q.rows * group));
    }
}

void query_scores(Context& context, const float* mean, const Matrix& keys, const Heads& heads, float* scores,
                  int64_t stride) {
  const int64_t d = heads.dimension, n = keys.rows;
  require(n <= stride && keys.columns == heads.key_value * d, "query_scores: keys differ in shape from the heads");
  constexpr int64_t kPiece = 96;  // keys
  const int64_t pieces = (n + kPiece - 1) / kPiece;
  const double work = 2.0 * static_cast<double>(n) * static_cast<double>(keys.columns);
  context.pool.run(pieces, work > kWorthWaking, [&](int64_t piece, int) {
    const int64_t first = piece * kPiece, rows = std::min(kPiece, n - first);
    for (int64_t h = 0; h < heads.key_value; ++h)
      context.kernels.dots(mean + h * d, d, 1, row(keys, first) + h * d, keys.stride, rows, d,
                           scores + h * stride + first, stride);
  });
}

void max_pool(Context& context, float* scores, int64_t key_value_heads, int64_t rows) {
  float* before = context.shared.floats(key_value_heads * rows);  // [NK, T]
  std::copy_n(scores, key_value_heads * rows, before);
  context.pool.run(key_value_heads, static_cast<double>(rows) > kWorthWaking, [&](int64_t h, int) {
    const float* from = before + h * rows;
    float* to = scores + h * rows;
    for (int64_t i = 0; i < rows; ++i) {
      const int64_t last = std::min(i + 2, rows - 1);
      for (int64_t j = std::max<int64_t>(i - 2, 0); j <= last; ++j) to[i] = std::max(to[i], from[j]);
    }
  });
}

void top_indices(Context& context, const float* scores, int64_t key_value_heads, int64_t rows, int64_t first,
                 int64_t count, int32_t* indices) {
  require(first >= 0 && count >= 0 && count <= rows - first, "top_indices: fewer candidates than `count`");
  if (count == 0) return;
  const int64_t n = rows - first;
  auto* keys = reinterpret_cast<uint32_t*>(context.shared.floats(key_value_heads * n));  // [NK, n]
  context.pool.run(key_value_heads, static_cast<double>(n) > kWorthWaking / 10, [&](int64_t h, int) {
    const float* from = scores + h * rows + first;
    uint32_t* work = keys + h * n;
    std::transform(from, from + n, work, sort_key);
    std::nth_element(work, work + count - 1, work + n, std::greater<>());
    const uint32_t threshold = work[count - 1];  // of the last one chosen
    // Everything above it is in; those equal to it fill up from the lowest index.
    int64_t equal = count - std::count_if(work, work + count, [&](uint32_t key) { return key > threshold; });
    int32_t* to = indices + h * count;
    for (int64_t i = 0; i < n; ++i) {
      const uint32_t key = sort_key(from[i]);
      if (key > threshold || (key == threshold && equal-- > 0)) *to++ = static_cast<int32_t>(first + i);
    }
  });
}

void gather(const KeyValues& kv, const int32_t* indices, int64_t count, int64_t offset, const Heads& heads,
            const KeyValues& out) {
  const int64_t d = heads.dimension, width = heads.key_value * d;
  require(out.keys.rows == count && out.values.rows == count &&
              (count == 0 || (kv.keys.columns == width && kv.values.columns == width &&
                              out.keys.columns == width && out.values.columns == width)),
          "gather: kv and out differ in shape from the heads");
  for (int64_t h = 0; h < heads.key_value; ++h)
    for (int64_t i = 0; i < count; ++i) {
      const int64_t from = indices[h * count + i] + offset;
      require(from >= 0 && from < kv.keys.rows, "gather: an index lies outside the rows");
      std::memcpy(row(out.keys, i) + h * d, row(kv.keys, from) + h * d, static_cast<size_t>(d) * sizeof(float));
      std::memcpy(row(out.values, i) + h * d, row(kv.values, from) + h * d, static_cast<size_t>(d) * sizeof(float));
    }
}

}  // namespace longhaul::cpu
