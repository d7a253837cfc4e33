#include "isa.h"

#include <string>

#if defined(__x86_64__) && defined(__linux__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include "../../engine/errors.h"

namespace longhaul::cpu {

bool has_isa(Isa isa) {
  switch (isa) {
    case Isa::Auto:
    case Isa::Portable: return true;
#if defined(__x86_64__)
    case Isa::Avx2:
      return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    case Isa::Avx512:
      return has_isa(Isa::Avx2) && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
             __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
#else
    default: break;
#endif
  }
  return false;
}

bool has_bf16() {
#if defined(__x86_64__)
  return has_isa(Isa::Avx512) && __builtin_cpu_supports("avx512bf16");
#else
  return false;
#endif
}

bool has_amx() {
#if defined(__x86_64__) && defined(__linux__)
  static const bool granted = [] {
    constexpr unsigned kBf16 = 1u << 22, kTile = 1u << 24;      // CPUID leaf 7, EDX
    constexpr long kRequest = 0x1023, kTileData = 18;           // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
    unsigned a = 0, b = 0, c = 0, d = 0;
    if (!has_bf16() || __get_cpuid_count(7, 0, &a, &b, &c, &d) == 0 || (d & kBf16) == 0 || (d & kTile) == 0) return false;
    return syscall(SYS_arch_prctl, kRequest, kTileData) == 0;  // for the whole process
  }();
  return granted;
#else
  return false;
#endif
}

const Kernels& kernels_for(Isa isa, Precision precision) {
  if (precision == Precision::Bf16 && (!has_bf16() || (isa != Isa::Auto && isa != Isa::Avx512)))
    throw EngineError("unsupported", has_bf16() ? "precision 'bf16' needs the instruction set 'avx512' or 'auto'"
                                                : "this processor has no bfloat16 products (AVX512_BF16): choose "
                                                  "precision 'float32'");
#if defined(__x86_64__)
  if (precision == Precision::Bf16) return has_amx() ? amx_kernels() : avx512_bf16_kernels();
  if (isa == Isa::Auto) isa = has_isa(Isa::Avx512) ? Isa::Avx512 : has_isa(Isa::Avx2) ? Isa::Avx2 : Isa::Portable;
  const char* name = isa == Isa::Avx512 ? "AVX-512 (F, BW, VL, DQ)" : "AVX2 and FMA";
  if (!has_isa(isa))
    throw EngineError("unsupported", std::string("this processor has no ") + name +
                                         ": choose another instruction set, or 'auto'");
  if (isa == Isa::Avx512) return avx512_kernels();
  if (isa == Isa::Avx2) return avx2_kernels();
#else
  if (!has_isa(isa))
    throw EngineError("unsupported", "AVX2 and AVX-512 need an x86-64 processor: choose 'portable' or 'auto'");
#endif
  return portable_kernels();
}

}  // namespace longhaul::cpu
