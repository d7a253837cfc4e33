// Ranks with a GPU each, joined by NCCL.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdio>
#include <memory>

#include "backends/cuda/cuda_backend.h"
#include "comm/choose.h"
#include "comm_mesh.h"

namespace longhaul::testing {

/// False, and a line that says so, where there is one GPU or none.
inline bool two_gpus() {
  int count = 0;
  if (cudaGetDeviceCount(&count) == cudaSuccess && count >= 2) return true;
  std::printf("     NOT RUN: needs 2 GPUs, there are %d\n", count);
  return false;
}

inline std::shared_ptr<Backend> gpu(int rank) { return cuda::make({rank, ""}); }

inline std::unique_ptr<Communicator> connect_gpu(comm_test::Listeners& listeners, int rank, Backend& backend,
                                                 CommChoice choice = CommChoice::Nccl) {
  return choose_communicator(listeners.connect(rank), backend, {choice, ""}, comm_test::soon());
}

}  // namespace longhaul::testing
