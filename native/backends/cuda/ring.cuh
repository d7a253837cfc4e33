// A ring of buffers between producers and consumers.
#pragma once

#include <cstdint>

namespace longhaul::cuda {

/// Place in a ring of `Count` buffers, and the parity of its barriers' phase: consumers wait for
/// `phase` of the full barrier, producers for the opposite of the empty one.
template <int Count>
struct Ring {
  int index = 0;
  uint32_t phase = 0;

  __device__ void next() {
    if (++index == Count) index = 0, phase ^= 1;
  }
};

}  // namespace longhaul::cuda
