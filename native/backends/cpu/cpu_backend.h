// The CPU backend: float32, AVX2 or AVX-512 chosen at run time. Default without a GPU, and the
// oracle that the CUDA backend is compared with.
#pragma once

#include <memory>

#include "../backend.h"

namespace longhaul {

enum class Isa { Auto, Portable, Avx2, Avx512 };

struct CpuOptions {
  int threads = 1;       // threads of this backend, the calling one included
  Isa isa = Isa::Auto;   // Auto: the widest that the processor has; otherwise exactly this one
};

/// Throws EngineError("unsupported") when the processor lacks the named instruction set.
std::shared_ptr<Backend> make_cpu_backend(const CpuOptions& options);

}  // namespace longhaul
