// Softmax attention over a list of segments, in tiles.
#pragma once

#include <span>

#include "context.h"

namespace longhaul::cpu {

/// As Backend::attention.
void attention(Context& context, const Matrix& q, std::span<const Segment> segments, const Heads& heads,
               const Matrix& out, float* lse);

/// As Backend::merge_attention.
void merge_attention(Context& context, int64_t parts, const Matrix& outs, const float* lses,
                     const Heads& heads, const Matrix& out, float* merged_lse);

}  // namespace longhaul::cpu
