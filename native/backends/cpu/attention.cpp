#include "attention.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

namespace longhaul::cpu {
namespace {

// Rows of a query tile: query rows times the query heads that share a KV head. A multiple of every
// register tile's rows.
constexpr int64_t kTileRows = 96;
// Keys of a tile: scores [96, 256] and packed keys and values ([256, 64] each) stay in the second
// level of cache.
constexpr int64_t kTileKeys = 256;
// Up to this many rows the keys are used once or twice and packing them would cost more than the
// products: they are read as they lie.
constexpr int64_t kFewRows = 8;
constexpr int64_t kFewKeys = 64;

constexpr float kNegativeInfinity = -std::numeric_limits<float>::infinity();

/// A run of keys of one segment.
struct KeyTile {
  const Segment* segment;
  int64_t first, keys;  // rows of the segment's matrices
  int64_t queries;      // T

  /// How many of the tile's keys query row i sees.
  int64_t visible(int64_t i) const {
    if (!segment->causal) return keys;
    return std::clamp<int64_t>(i + segment->kv.keys.rows - queries + 1 - first, 0, keys);
  }
  const float* key(int64_t column) const { return row(segment->kv.keys, first) + column; }
  const float* value(int64_t column) const { return row(segment->kv.values, first) + column; }
};

std::vector<KeyTile> cut(std::span<const Segment> segments, int64_t queries, int64_t size) {
  std::vector<KeyTile> tiles;
  for (const Segment& segment : segments)
    for (int64_t first = 0; first < segment.kv.keys.rows; first += size)
      tiles.push_back({&segment, first, std::min(size, segment.kv.keys.rows - first), queries});
  return tiles;
}

/// One call's shapes and where its packed tiles lie.
struct Call {
  const Kernels& kernels;
  const Matrix& q;
  const Matrix& out;
  const Heads& heads;
  float* lse;                  // [T, NQ] or null
  std::vector<KeyTile> tiles;
  bool packed;                 // false: few rows, keys and values as they lie
  float* packs = nullptr;      // [tiles]: per tile K^T panels, then V panels, of one KV head

  int64_t group() const { return heads.query / heads.key_value; }
  int64_t padded_dimension() const { return round_up(heads.dimension, kernels.columns); }
  int64_t key_pack() const { return kTileKeys * heads.dimension; }  // kTileKeys is a multiple of NR
  int64_t pack() const { return key_pack() + kTileKeys * padded_dimension(); }
};

/// Tile t of KV head h -> K^T as panels [D, NR], one per NR keys, and V as panels [keys, NR], one
/// per NR columns. Padding is zero.
void pack_tile(const Call& call, int64_t t, int64_t h) {
  const KeyTile& tile = call.tiles[static_cast<size_t>(t)];
  const int64_t d = call.heads.dimension, nr = call.kernels.columns, column = h * d;
  float* to = call.packs + t * call.pack();
  for (int64_t j = 0; j < tile.keys; j += nr, to += d * nr) {
    const int64_t width = std::min(nr, tile.keys - j);
    const float* from = tile.key(column) + j * tile.segment->kv.keys.stride;
    for (int64_t c = 0; c < width; ++c, from += tile.segment->kv.keys.stride)
      for (int64_t i = 0; i < d; ++i) to[i * nr + c] = from[i];
    for (int64_t c = width; c < nr; ++c)
      for (int64_t i = 0; i < d; ++i) to[i * nr + c] = 0.f;
  }
  to = call.packs + t * call.pack() + call.key_pack();
  for (int64_t c = 0; c < d; c += nr) {
    const int64_t width = std::min(nr, d - c);
    const float* from = tile.value(column) + c;
    for (int64_t j = 0; j < tile.keys; ++j, from += tile.segment->kv.values.stride, to += nr) {
      std::memcpy(to, from, static_cast<size_t>(width) * sizeof(float));
      std::fill(to + width, to + nr, 0.f);
    }
  }
}

/// Query rows [first, first + queries) of the heads that share KV heads [head, head + heads).
/// Tile row (n * queries + i) * group + g is query row first + i, head (head + n) * group + g.
/// Several KV heads only when few rows read the keys as they lie: then whole rows of keys stream by.
void attend(const Call& call, Scratch& scratch, int64_t head, int64_t heads, int64_t first, int64_t queries) {
  const Kernels& kernels = call.kernels;
  const int64_t group = call.group(), rows = queries * group, all = heads * rows, d = call.heads.dimension;
  const int64_t query_stride = d + 16, score_stride = kTileKeys + 16, out_stride = call.padded_dimension();
  float* q = scratch.floats(all * (query_stride + score_stride + out_stride + 2));  // [all, D], scaled
  float* scores = q + all * query_stride;    // [all, kTileKeys]
  float* out = scores + all * score_stride;  // [all, D padded], not yet divided by sum
  float* maximum = out + all * out_stride;   // [all]
  float* sum = maximum + all;                // [all]
  const auto query = [&](int64_t r) { return first + r % rows / group; };
  const auto query_head = [&](int64_t r) { return (head + r / rows) * group + r % group; };
  const float scale = 1.f / std::sqrt(static_cast<float>(d));
  for (int64_t r = 0; r < all; ++r)
    kernels.scale(row(call.q, query(r)) + query_head(r) * d, scale, d, q + r * query_stride);
  std::fill_n(out, all * out_stride, 0.f);
  std::fill_n(maximum, all, kNegativeInfinity);
  std::fill_n(sum, all, 0.f);

  int64_t limits[kTileRows];
  for (size_t t = 0; t < call.tiles.size(); ++t) {
    const KeyTile& tile = call.tiles[t];
    if (tile.visible(first + queries - 1) == 0) continue;
    const bool whole = tile.visible(first) == tile.keys;
    const int64_t step = whole ? rows : kernels.rows;  // on the diagonal, each register tile ends early
    for (int64_t r = 0; r < rows; ++r) limits[r] = tile.visible(query(r));
    for (int64_t r = 0; r < all; r += std::min(step, rows - r % rows)) {
      const int64_t height = std::min(step, rows - r % rows), end = limits[r % rows + height - 1];
      if (end == 0) continue;
      const float* qr = q + r * query_stride;
      float *sr = scores + r * score_stride, *outr = out + r * out_stride;
      const auto softmax = [&] {
        kernels.softmax_step(sr, score_stride, height, limits + r % rows, end, maximum + r, sum + r, outr, out_stride, d);
      };
      if (call.packed) {
        const float* keys = call.packs + static_cast<int64_t>(t) * call.pack();
        const float* values = keys + call.key_pack();
        kernels.multiply(qr, query_stride, height, d, keys, d * kernels.columns, round_up(end, kernels.columns),
                         sr, score_stride, nullptr, false);
        softmax();
        kernels.multiply(sr, score_stride, height, end, values, tile.keys * kernels.columns, out_stride,
                         outr, out_stride, nullptr, true);
      } else {
        const KeyValues& kv = tile.segment->kv;
        const int64_t column = (head + r / rows) * d;
        kernels.dots(qr, query_stride, height, tile.key(column), kv.keys.stride, end, d, sr, score_stride);
        softmax();
        kernels.weigh(sr, score_stride, height, tile.value(column), kv.values.stride, end, d, outr, out_stride);
      }
    }
  }

  for (int64_t r = 0; r < all; ++r) {
    kernels.scale(out + r * out_stride, sum[r] > 0 ? 1.f / sum[r] : 0.f, d, row(call.out, query(r)) + query_head(r) * d);
    if (call.lse != nullptr)
      call.lse[query(r) * call.heads.query + query_head(r)] = sum[r] > 0 ? maximum[r] + std::log(sum[r]) : kNegativeInfinity;
  }
}

}  // namespace

void attention(Context& context, const Matrix& q, std::span<const Segment> segments, const Heads& heads,
               const Matrix& out, float* lse) {
  require(heads.key_value > 0 && heads.dimension > 0 && heads.query % heads.key_value == 0,
          "attention: key/value heads must divide the query heads");
  const int64_t group = heads.query / heads.key_value;
  require(group <= kTileRows, "attention: more than 96 query heads per key/value head");
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

  const bool packed = q.rows * group > kFewRows;
  Call call{context.kernels, q, out, heads, lse, cut(segments, q.rows, packed ? kTileKeys : kFewKeys), packed};
  const double work = 4.0 * static_cast<double>(q.rows * keys) * static_cast<double>(heads.query * heads.dimension);
  const auto scratch = [&](int worker) -> Scratch& { return context.scratch[static_cast<size_t>(worker)]; };
  if (!packed) {
    const int64_t pieces = std::min<int64_t>(heads.key_value, work > kWorthWaking ? context.pool.threads() : 1);
    context.pool.run(pieces, true, [&](int64_t item, int worker) {
      const int64_t head = heads.key_value * item / pieces, end = heads.key_value * (item + 1) / pieces;
      attend(call, scratch(worker), head, end - head, 0, q.rows);
    });
    return;
  }
  const auto tiles = static_cast<int64_t>(call.tiles.size());
  call.packs = context.shared.floats(tiles * call.pack());
  const int64_t queries = std::max<int64_t>(1, kTileRows / group), query_tiles = (q.rows + queries - 1) / queries;
  for (int64_t h = 0; h < heads.key_value; ++h) {  // one at a time: the packs hold one KV head
    context.pool.run(tiles, work > kWorthWaking, [&](int64_t t, int) { pack_tile(call, t, h); });
    context.pool.run(query_tiles, work > kWorthWaking, [&](int64_t item, int worker) {
      const int64_t first = (query_tiles - 1 - item) * queries;  // causal: the longest tiles first
      attend(call, scratch(worker), h, 1, first, std::min(queries, q.rows - first));
    });
  }
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
