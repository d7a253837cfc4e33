// CUDA errors as the engine's typed errors.
#pragma once

#include <cuda_runtime_api.h>

#include <string>

#include "../../engine/errors.h"

namespace longhaul::cuda {

/// Throws EngineError "out_of_memory" or "cuda_error", naming what failed, the driver's words and the remedy.
inline void check(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  cudaGetLastError();  // an error that does not break the context must not be blamed on the next call
  if (status == cudaErrorMemoryAllocation)
    throw EngineError("out_of_memory", std::string("the GPU's memory is used up (") + what +
                                           "); use more ranks, or a smaller model or document");
  throw EngineError("cuda_error", std::string(what) + " failed on the GPU: " + cudaGetErrorString(status) + " (" +
                                      cudaGetErrorName(status) + "); restart this rank, and run `longhaul doctor` if it fails again");
}

/// After a kernel launch: whether it could be started.
inline void check_launch(const char* kernel) { check(cudaGetLastError(), kernel); }

/// The engine's shapes are its own: a mismatch is a bug of the caller, which must not corrupt memory.
inline void require(bool fits, const char* what) {
  if (!fits) throw EngineError("invalid_argument", std::string("cuda backend: ") + what);
}

}  // namespace longhaul::cuda
