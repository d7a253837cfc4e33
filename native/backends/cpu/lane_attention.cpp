#include "lane_attention.h"

#include <cmath>
#include <cstring>
#include <limits>

namespace longhaul::cpu {
namespace {

// Packed tiles that all query tiles share: as many KV heads at a time as fit.
constexpr int64_t kSharedFloats = int64_t{16} << 20;

struct Shape {
  const Kernels& kernels;
  const Matrix& q;
  const Heads& heads;

  int64_t group() const { return heads.query / heads.key_value; }
  int64_t key_pack() const { return kLaneKeys * heads.dimension; }
  int64_t pack() const { return key_pack() + kLaneKeys * round_up(heads.dimension, kernels.lane_rows); }
};

/// Keys and values of KV head `head` -> to [pack()].
KeyBlock pack_tile(const Shape& shape, const KeyTile& tile, int64_t head, float* to) {
  const int64_t d = shape.heads.dimension;
  const Matrix &keys = tile.segment->kv.keys, &values = tile.segment->kv.values;
  for (int64_t j = 0; j < tile.keys; ++j)
    std::memcpy(to + j * d, tile.key(head * d) + j * keys.stride, static_cast<size_t>(d) * sizeof(float));
  std::fill(to + tile.keys * d, to + round_up(tile.keys, shape.kernels.lane_rows) * d, 0.f);
  shape.kernels.pack_values(tile.value(head * d), values.stride, tile.keys, d, to + shape.key_pack());
  return {to, to + shape.key_pack(), tile.keys};
}

/// Query rows [first, first + queries) of the heads that share KV head `head`, to one part.
/// Lane r of the tile is query row first + r / group, head (head * group) + r % group.
/// `packs`: the part's tiles as pack_tile leaves them, or null: each is packed when its turn comes.
void attend(const Shape& shape, Scratch& scratch, const Partial& part, int64_t head, int64_t first, int64_t queries,
            const float* packs) {
  const Kernels& kernels = shape.kernels;
  const int64_t d = shape.heads.dimension, nr = kernels.columns, group = shape.group();
  const int64_t rows = queries * group, panels = (rows + nr - 1) / nr, lanes = panels * nr;
  float* q = scratch.floats(lanes * (2 * d + 2) + nr * (kLaneKeys + 1) + (packs ? 0 : shape.pack()));  // [panels, D, NR]
  float* out = q + lanes * d;               // [panels, D, NR]
  float* reference = out + lanes * d;       // [lanes]
  float* sum = reference + lanes;           // [lanes]
  float* scores = sum + lanes;              // [kLaneKeys, NR]
  float* limits = scores + nr * kLaneKeys;  // [NR]
  float* own = limits + nr;                 // [pack()]
  const float scale = 1.f / std::sqrt(static_cast<float>(d));
  std::fill_n(q, lanes * 2 * d, 0.f);
  std::fill_n(reference, lanes, kNoReference);
  std::fill_n(sum, lanes, 0.f);
  const auto query = [&](int64_t r) { return first + std::min(r, rows - 1) / group; };
  for (int64_t r = 0; r < rows; ++r) {
    const float* from = row(shape.q, query(r)) + (head * group + r % group) * d;
    float* to = q + r / nr * d * nr + r % nr;
    for (int64_t i = 0; i < d; ++i) to[i * nr] = scale * from[i];
  }

  for (size_t t = 0; t < part.tiles.size(); ++t) {
    const KeyTile& tile = part.tiles[t];
    if (tile.visible(first + queries - 1) == 0) continue;
    const float* packed = packs ? packs + static_cast<int64_t>(t) * shape.pack() : own;
    const KeyBlock block =
        packs ? KeyBlock{packed, packed + shape.key_pack(), tile.keys} : pack_tile(shape, tile, head, own);
    for (int64_t p = 0; p < panels; ++p) {
      const int64_t lowest = tile.visible(query(p * nr)), end = tile.visible(query(p * nr + nr - 1));
      if (end == 0) continue;
      const bool masked = lowest < end;
      if (masked)
        for (int64_t i = 0; i < nr; ++i) limits[i] = static_cast<float>(tile.visible(query(p * nr + i)));
      kernels.attend({q + p * d * nr, scores, out + p * d * nr, reference + p * nr, sum + p * nr}, block, d, end,
                     masked ? limits : nullptr, lowest);
    }
  }

  for (int64_t r = 0; r < rows; ++r) {
    const int64_t n = head * group + r % group;
    const bool seen = reference[r] != kNoReference;
    const float* from = out + r / nr * d * nr + r % nr;
    float* to = row(part.out, query(r)) + n * d;
    for (int64_t i = 0; i < d; ++i) to[i] = seen ? from[i * nr] / sum[r] : 0.f;
    if (part.lse != nullptr)
      part.lse[query(r) * shape.heads.query + n] =
          seen ? static_cast<float>(reference[r] / double{kLog2E} + std::log(double{sum[r]}))
               : -std::numeric_limits<float>::infinity();
  }
}

}  // namespace

void lane_attention(Context& context, const Matrix& q, const Heads& heads, std::span<const Partial> parts) {
  const Shape shape{context.kernels, q, heads};
  const int64_t queries = queries_per_tile(shape.group()), query_tiles = (q.rows + queries - 1) / queries;
  const auto scratch = [&](int worker) -> Scratch& { return context.scratch[static_cast<size_t>(worker)]; };
  if (query_tiles == 1) {  // the only reader of each packed tile
    const auto count = static_cast<int64_t>(parts.size());
    context.pool.run(count * heads.key_value, true, [&](int64_t item, int worker) {
      attend(shape, scratch(worker), parts[static_cast<size_t>(item % count)], item / count, 0, q.rows, nullptr);
    });
    return;
  }
  for (const Partial& part : parts) {
    const auto tiles = static_cast<int64_t>(part.tiles.size());
    const int64_t size = std::max<int64_t>(1, tiles) * shape.pack();
    const int64_t at_once = std::clamp<int64_t>(kSharedFloats / size, 1, heads.key_value);
    float* packs = context.shared.floats(at_once * size);  // [at_once, tiles, pack()]
    for (int64_t h = 0; h < heads.key_value; h += at_once) {
      const int64_t n = std::min(at_once, heads.key_value - h);
      context.pool.run(n * tiles, true, [&](int64_t item, int) {
        pack_tile(shape, part.tiles[static_cast<size_t>(item % tiles)], h + item / tiles, packs + item * shape.pack());
      });
      context.pool.run(query_tiles * n, true, [&](int64_t item, int worker) {
        const int64_t first = (query_tiles - 1 - item / n) * queries;  // causal: the longest tiles first
        attend(shape, scratch(worker), part, h + item % n, first, std::min(queries, q.rows - first),
               packs + item % n * size);
      });
    }
  }
}

}  // namespace longhaul::cpu
