#include "few_rows_attention.h"

#include <cmath>
#include <limits>

namespace longhaul::cpu {
namespace {

constexpr float kNegativeInfinity = -std::numeric_limits<float>::infinity();

/// All heads, so that whole rows of keys and values stream by.
/// Row (h * T + i) * group + g of the working memory is query row i, head h * group + g.
void attend(const Kernels& kernels, Scratch& scratch, const Matrix& q, const Heads& heads, const Partial& part) {
  const int64_t group = heads.query / heads.key_value, d = heads.dimension;
  const int64_t rows = q.rows * group, all = heads.key_value * rows;
  const int64_t query_stride = d + 16, score_stride = kFewKeys + 16, out_stride = query_stride;
  float* scaled = scratch.floats(all * (query_stride + score_stride + out_stride + 2));  // [all, D]
  float* scores = scaled + all * query_stride;  // [all, kFewKeys]
  float* out = scores + all * score_stride;     // [all, D], not yet divided by sum
  float* maximum = out + all * out_stride;      // [all]
  float* sum = maximum + all;                   // [all]
  const auto query = [&](int64_t r) { return r % rows / group; };
  const auto query_head = [&](int64_t r) { return r / rows * group + r % group; };
  const float scale = 1.f / std::sqrt(static_cast<float>(d));
  for (int64_t r = 0; r < all; ++r)
    kernels.scale(row(q, query(r)) + query_head(r) * d, scale, d, scaled + r * query_stride);
  std::fill_n(out, all * out_stride, 0.f);
  std::fill_n(maximum, all, kNegativeInfinity);
  std::fill_n(sum, all, 0.f);

  int64_t limits[kFewRows];
  for (const KeyTile& tile : part.tiles) {
    const KeyValues& kv = tile.segment->kv;
    const int64_t end = tile.visible(q.rows - 1);
    if (end == 0) continue;
    for (int64_t r = 0; r < rows; ++r) limits[r] = tile.visible(query(r));
    for (int64_t h = 0; h < heads.key_value; ++h) {
      const int64_t r = h * rows;
      float *s = scores + r * score_stride, *to = out + r * out_stride;
      kernels.dots(scaled + r * query_stride, query_stride, rows, tile.key(h * d), kv.keys.stride, end, d, s, score_stride);
      kernels.softmax_step(s, score_stride, rows, limits, end, maximum + r, sum + r, to, out_stride, d);
      kernels.weigh(s, score_stride, rows, tile.value(h * d), kv.values.stride, end, d, to, out_stride);
    }
  }

  for (int64_t r = 0; r < all; ++r) {
    const bool seen = maximum[r] != kNegativeInfinity;
    kernels.scale(out + r * out_stride, seen ? 1.f / sum[r] : 0.f, d, row(part.out, query(r)) + query_head(r) * d);
    if (part.lse != nullptr)
      part.lse[query(r) * heads.query + query_head(r)] = seen ? maximum[r] + std::log(sum[r]) : kNegativeInfinity;
  }
}

}  // namespace

void few_rows_attention(Context& context, const Matrix& q, const Heads& heads, std::span<const Partial> parts) {
  context.pool.run(static_cast<int64_t>(parts.size()), true, [&](int64_t item, int worker) {
    attend(context.kernels, context.scratch[static_cast<size_t>(worker)], q, heads, parts[static_cast<size_t>(item)]);
  });
}

}  // namespace longhaul::cpu
