// Attention of a few query rows (decoding): keys and values are read once, as they lie.
#pragma once

#include "key_tiles.h"

namespace longhaul::cpu {

/// Up to this many query rows times query heads per KV head the keys are used once or twice, and
/// packing them would cost more than the products.
constexpr int64_t kFewRows = 8;
constexpr int64_t kFewKeys = 128;  // keys of a tile

/// Attention of q [T, NQ*D] to the keys of each part, apart from the others.
void few_rows_attention(Context& context, const Matrix& q, const Heads& heads, std::span<const Partial> parts);

}  // namespace longhaul::cpu
