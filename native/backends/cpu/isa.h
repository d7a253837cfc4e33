// Which vector kernels this processor can run.
#pragma once

#include "cpu_backend.h"
#include "kernels.h"

namespace longhaul::cpu {

bool has_isa(Isa isa);
/// AVX512_BF16.
bool has_bf16();
/// AMX with bfloat16 besides it. Asks Linux for the use of AMX's registers, once, for the whole process.
bool has_amx();
/// Auto: the widest there is. Throws EngineError("unsupported") when the processor lacks it.
const Kernels& kernels_for(Isa isa, Precision precision = Precision::Float32);

}  // namespace longhaul::cpu
