// Attention of many query rows: one row per vector lane (attention_kernel.h), tile by tile.
#pragma once

#include "key_tiles.h"

namespace longhaul::cpu {

/// Keys of a tile: a block's scores, [192, NR], stay in the first level of cache and its packed keys
/// and values ([192, 64] each) in the second.
constexpr int64_t kLaneKeys = 192;
/// Query rows times query heads per KV head of a query tile. A multiple of every NR.
constexpr int64_t kLaneRows = 192;

inline int64_t queries_per_tile(int64_t group) { return std::max<int64_t>(1, kLaneRows / group); }

/// Attention of q [T, NQ*D] to the keys of each part, apart from the others.
void lane_attention(Context& context, const Matrix& q, const Heads& heads, std::span<const Partial> parts);

}  // namespace longhaul::cpu
