// Which backends this build and this machine have, and their making.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "../backends/load/cuda_library.h"

namespace longhaul::node {

struct Capabilities {
  std::vector<std::string> backends;
  std::string isa;  // the widest vector kernels of the CPU backend that this processor runs
  int threads = 1;
  cuda::Report cuda;  // nothing missing: it works
};

/// Asks a child process about the GPU, which takes a second where there is one; once per process and options.
Capabilities capabilities(const CudaOptions& cuda);

struct BackendOptions {
  std::string name;  // "cpu", "cuda", or "auto": CUDA where it works, otherwise the CPU
  int64_t threads = 1;
  std::string isa = "auto";  // "auto", "portable", "avx2" or "avx512"
  CudaOptions cuda;
  std::string precision = "float32";  // of the CPU's linear layers: "float32", or "bf16" where it has AVX512_BF16
  int64_t document_memory = 0;  // bytes of the CPU backend for documents; 0: the machine's memory
};

/// A backend that was named is never replaced: EngineError("unsupported"), naming what is missing, instead.
std::shared_ptr<Backend> make_backend(const BackendOptions& options);

}  // namespace longhaul::node
