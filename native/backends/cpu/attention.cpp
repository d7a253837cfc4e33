#include "attention.h"

#include <cmath>
#include <limits>

#include "few_rows_attention.h"
#include "lane_attention.h"

namespace longhaul::cpu {
namespace {

constexpr float kNegativeInfinity = -std::numeric_limits<float>::infinity();

// With few query rows the threads share the keys. What decides is the call's shape and never the
// number of threads, so that the same bits come out of every number of them.
constexpr int64_t kKeysPerPart = 512;
constexpr int64_t kParts = 32;

}  // namespace

void attention(Context& context, const Matrix& q, std::span<const Segment> segments, const Heads& heads,
               const Matrix& out, float* lse) {
  require(heads.key_value > 0 && heads.dimension > 0 && heads.query % heads.key_value == 0,
          "attention: key/value heads must divide the query heads");
  const int64_t group = heads.query / heads.key_value;
  require(q.columns == heads.query * heads.dimension && out.columns == q.columns && out.rows == q.rows,
          "attention: q and out differ in shape from the heads");
  int64_t keys = 0;
  for (const Segment& segment : segments) {
    const auto& [k, v] = segment.kv;
    require(k.rows == v.rows && (k.rows == 0 || (k.columns == heads.key_value * heads.dimension && v.columns == k.columns)),
            "attention: keys and values differ in shape from the heads");
    keys += k.rows;
  }
  if (q.rows == 0) return;

  const bool few = q.rows * group <= kFewRows;
  const auto run = few ? few_rows_attention : lane_attention;
  const std::vector<KeyTile> tiles = cut(segments, q.rows, few ? kFewKeys : kLaneKeys);
  const int64_t parts = q.rows > queries_per_tile(group) ? 1 : std::clamp<int64_t>(keys / kKeysPerPart, 1, kParts);
  if (parts == 1) {
    const Partial whole{out, lse, tiles};
    return run(context, q, heads, {&whole, 1});
  }
  // outs [parts, T, NQ*D], then lses [parts, T, NQ]
  float* outs = context.shared.floats(parts * q.rows * (q.columns + heads.query));
  float* lses = outs + parts * q.rows * q.columns;
  std::vector<Partial> partials;
  const size_t count = tiles.size();
  for (int64_t i = 0; i < parts; ++i) {
    const size_t first = count * static_cast<size_t>(i) / static_cast<size_t>(parts);
    const size_t end = count * static_cast<size_t>(i + 1) / static_cast<size_t>(parts);
    partials.push_back({{outs + i * q.rows * q.columns, q.rows, q.columns, q.columns}, lses + i * q.rows * heads.query,
                        std::span(tiles).subspan(first, end - first)});
  }
  run(context, q, heads, partials);
  merge_attention(context, parts, {outs, parts * q.rows, q.columns, q.columns}, lses, heads, out, lse);
}

void merge_attention(Context& context, int64_t parts, const Matrix& outs, const float* lses,
                     const Heads& heads, const Matrix& out, float* merged_lse) {
  const int64_t n = out.rows, nq = heads.query, d = heads.dimension;
  require(outs.rows == parts * n && outs.columns == nq * d && out.columns == nq * d,
          "merge_attention: outs and out differ in shape");
  const double work = 2.0 * static_cast<double>(parts * n) * static_cast<double>(nq * d);
  context.pool.run(n, work > kWorthWaking, [&](int64_t i, int) {
    for (int64_t head = 0; head < nq; ++head) {
      const auto lse = [&](int64_t part) { return lses[(part * n + i) * nq + head]; };
      float top = kNegativeInfinity;
      for (int64_t part = 0; part < parts; ++part) top = std::max(top, lse(part));
      float* to = row(out, i) + head * d;
      std::fill_n(to, d, 0.f);
      float total = 0.f;
      for (int64_t part = 0; part < parts; ++part) {
        if (lse(part) == kNegativeInfinity) continue;  // saw no key: its output may be anything
        const float weight = std::exp(lse(part) - top);
        total += weight;
        const float* from = row(outs, part * n + i) + head * d;
        for (int64_t c = 0; c < d; ++c) to[c] += weight * from[c];
      }
      if (total > 0)
        for (int64_t c = 0; c < d; ++c) to[c] /= total;
      if (merged_lse != nullptr)
        merged_lse[i * nq + head] = total > 0 ? top + std::log(total) : kNegativeInfinity;
    }
  });
}

}  // namespace longhaul::cpu
