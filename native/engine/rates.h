// How fast this rank prefills, measured: what a plan needs to cut a document so that ranks end together.
#pragma once

#include "model.h"

namespace longhaul {

struct Rates {
  double row_seconds = 0;   // per row: norms, GEMMs, RoPE, MLP and retaining scores, over all layers
  double pair_seconds = 0;  // per (query, key) pair of attention, over all layers
};

/// Runs parts of the first layer for about a quarter of a second, on sizes that are large enough to
/// tell, and takes the best of several times. Throws what the backend throws.
Rates measure_rates(const Model& model);

}  // namespace longhaul
