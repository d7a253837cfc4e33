// What libapb_cuda.so exports. Both sides are built from one tree by one compiler; `seam` proves it,
// so that a library left over from another build is refused instead of crashing.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "../backend.h"

namespace longhaul::cuda {

struct DeviceOptions {
  int64_t device = 0;     // which GPU; counted modulo the number of GPUs that the process sees
  std::string cublas_lt;  // path or name of libcublasLt.so; empty: searched for
};

/// What the library found. `missing` is empty when the backend works: each entry names one thing
/// that is not there, or cannot be used, and the remedy.
struct Report {
  std::string description;  // "cuda (NVIDIA H100 80GB HBM3)"
  std::string cublas_lt;    // where cuBLASLt came from, and its version
  std::vector<std::string> missing;
  // Of collectives between GPUs, which the backend itself does without; filled in by the child of probe_cuda.
  std::string nccl;          // where NCCL came from, and its version
  std::string nccl_missing;  // why it cannot be used, and the remedy; empty: it can
};

struct Abi {
  const char* seam;  // digest of the headers and the compiler that this side was built with
  Report (*probe)(const DeviceOptions&);
  /// Throws EngineError "unsupported" for a machine that lacks something, naming it.
  std::shared_ptr<Backend> (*make)(const DeviceOptions&);
};

constexpr const char* kEntry = "longhaul_cuda_abi";
using Entry = const Abi* (*)();

}  // namespace longhaul::cuda
