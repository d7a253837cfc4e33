// What is taken of the calling thread's GPU, in bytes, weights and all.
#pragma once

#include <cuda_runtime_api.h>

namespace bench {

inline double used_bytes() {
  size_t free = 0, total = 0;
  cudaMemGetInfo(&free, &total);
  return static_cast<double>(total - free);
}

}  // namespace bench
