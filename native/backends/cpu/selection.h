// Choosing the rows whose keys and values a rank passes on.
#pragma once

#include "packed_linear.h"

namespace longhaul::cpu {

/// As the ops of the same names in Backend.
void retaining_scores(Context& context, const Matrix& qkv, const PackedLinear& fc1, const PackedLinear& fc2,
                      float* scores);
void mean_query(const Matrix& q, const Heads& heads, float* mean);
void query_scores(Context& context, const float* mean, const Matrix& keys, const Heads& heads, float* scores,
                  int64_t stride);
void max_pool(Context& context, float* scores, int64_t key_value_heads, int64_t rows);
void top_indices(Context& context, const float* scores, int64_t key_value_heads, int64_t rows, int64_t first,
                 int64_t count, int32_t* indices);
void gather(const KeyValues& kv, const int32_t* indices, int64_t count, int64_t offset, const Heads& heads,
            const KeyValues& out);

}  // namespace longhaul::cpu
