// Training-free scores (Spava): how much the mean query attends to each key.
#pragma once

#include "memory.h"

namespace longhaul::cuda {

/// See Backend::mean_query and Backend::query_scores.
void mean_query(const Device& device, const Matrix& q, const Heads& heads, float* mean);
void query_scores(const Device& device, const float* mean, const Matrix& keys, const Heads& heads, float* scores, int64_t stride);

}  // namespace longhaul::cuda
