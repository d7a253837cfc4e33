// Opens libapb_cuda.so, the CUDA backend's own shared object, so that one build runs with and without GPUs.
#pragma once

#include <string>

#include "../cuda/abi.h"

namespace longhaul {

struct CudaOptions {
  std::string library;  // empty: libapb_cuda.so beside the file that this code was linked into
  cuda::DeviceOptions device;
  std::string nccl;  // path or name of libnccl.so.2; empty: searched for
};

/// Where the library would be opened from.
std::string cuda_library_path(const CudaOptions& options);

/// The folder of the addon or program that this code is part of.
std::string own_folder();

/// Stays open for the life of the process. Throws EngineError("unsupported") when the file is not there, cannot be
/// opened, or was built from other headers or with another compiler.
const cuda::Abi& open_cuda_library(const CudaOptions& options);

}  // namespace longhaul
