// The keys of an attention call, cut into tiles.
#pragma once

#include <algorithm>
#include <span>
#include <vector>

#include "context.h"

namespace longhaul::cpu {

/// A run of keys of one segment.
struct KeyTile {
  const Segment* segment;
  int64_t first, keys;  // rows of the segment's matrices
  int64_t queries;      // T

  /// How many of the tile's keys query row i sees; never fewer than row i - 1.
  int64_t visible(int64_t i) const {
    if (!segment->causal) return keys;
    return std::clamp<int64_t>(i + segment->kv.keys.rows - queries + 1 - first, 0, keys);
  }
  const float* key(int64_t column) const { return row(segment->kv.keys, first) + column; }
  const float* value(int64_t column) const { return row(segment->kv.values, first) + column; }
};

inline std::vector<KeyTile> cut(std::span<const Segment> segments, int64_t queries, int64_t size) {
  std::vector<KeyTile> tiles;
  for (const Segment& segment : segments)
    for (int64_t first = 0; first < segment.kv.keys.rows; first += size)
      tiles.push_back({&segment, first, std::min(size, segment.kv.keys.rows - first), queries});
  return tiles;
}

/// Where attention to a range of tiles goes: all of the call's rows, or one part of several that
/// are merged afterwards.
struct Partial {
  Matrix out;                    // [T, NQ*D]
  float* lse;                    // [T, NQ] or null
  std::span<const KeyTile> tiles;
};

}  // namespace longhaul::cpu
