// The CUDA backend: bfloat16 on one GPU of compute capability 9.0, everything in one stream.
#pragma once

#include "abi.h"

namespace longhaul::cuda {

/// See Abi.
Report probe(const DeviceOptions& options);
std::shared_ptr<Backend> make(const DeviceOptions& options);

}  // namespace longhaul::cuda
