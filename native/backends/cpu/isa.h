// Which vector kernels this processor can run.
#pragma once

#include "cpu_backend.h"
#include "kernels.h"

namespace longhaul::cpu {

bool has_isa(Isa isa);
bool has_bf16();
/// Auto: the widest there is. Throws EngineError("unsupported") when the processor lacks it.
const Kernels& kernels_for(Isa isa, Precision precision = Precision::Float32);

}  // namespace longhaul::cpu
