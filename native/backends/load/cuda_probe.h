// Asks a child process whether the CUDA backend works here: a driver that crashes takes the child
// with it, never the rank.
#pragma once

#include "cuda_library.h"

namespace longhaul {

/// Runs `longhaul-probe`, which lies beside the addon, once per process and options; later calls get the same answer.
/// Never throws for what is missing: that is listed in the report.
const cuda::Report& probe_cuda(const CudaOptions& options);

/// The child's side: probes, and writes the report to stdout as lines of a key, a tab and a value.
int run_cuda_probe(const CudaOptions& options);

}  // namespace longhaul
