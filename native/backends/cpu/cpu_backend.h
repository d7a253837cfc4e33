// The CPU backend: float32 unless told otherwise, AVX2 or AVX-512 chosen at run time. Default without a GPU, and the
// oracle that the CUDA backend is compared with.
#pragma once

#include <memory>

#include "../backend.h"

namespace longhaul {

enum class Isa { Auto, Portable, Avx2, Avx512 };

/// What the linear layers multiply; sums, attention and everything else are float32 always.
enum class Precision { Float32, Bf16 };

struct CpuOptions {
  int threads = 1;       // threads of this backend, the calling one included
  Isa isa = Isa::Auto;   // Auto: the widest that the processor has; otherwise exactly this one
  Precision precision = Precision::Float32;  // Bf16 needs AVX512_BF16 and Isa::Auto or Avx512
  size_t document_memory = 0;  // bytes for documents: caches, and what runs over them; 0: the machine's memory
};

/// Throws EngineError("unsupported") when the processor lacks the named instruction set, or bfloat16
/// products when they are asked for.
std::shared_ptr<Backend> make_cpu_backend(const CpuOptions& options);

}  // namespace longhaul
