// What kernels need to know of the device.
#pragma once

#include <cuda_runtime_api.h>

#include "check.h"

namespace longhaul::cuda {

/// Streaming multiprocessors of the current device.
inline int multiprocessors() {
  int device = 0, count = 0;
  check(cudaGetDevice(&device), "cudaGetDevice");
  check(cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device), "cudaDeviceGetAttribute");
  return count;
}

}  // namespace longhaul::cuda
