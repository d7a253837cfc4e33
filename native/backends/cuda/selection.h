// Choosing and gathering the rows that a rank passes on (Locret's retaining heads, APB).
#pragma once

#include "linear.h"

namespace longhaul::cuda {

/// scores [NK, T] = fc2(silu(hidden)); hidden [T, R] dense, fc2 [NK, R].
void score_hidden(const Device& device, const __nv_bfloat16* hidden, int64_t rows, const DeviceLinear& fc2, float* scores);

/// to [NK, T] = maximum of `from` over 5 neighbours in its row.
void max_pool(const Device& device, const float* from, float* to, int64_t heads, int64_t rows);

/// Best `count` of scores[h, first .. rows), ties to the lower index -> indices [NK, count], ascending.
void top_indices(const Device& device, const float* scores, int64_t heads, int64_t rows, int64_t first, int64_t count, int32_t* indices);

/// out[i, h] = kv[indices[h, i] + offset, h] for keys and values; out [count, NK*D].
void gather(const Device& device, const KeyValues& kv, const int32_t* indices, int64_t count, int64_t offset,
            const Heads& heads, const KeyValues& out);

}  // namespace longhaul::cuda
