// Which vector kernels this processor can run.
#pragma once

#include "cpu_backend.h"
#include "kernels.h"

namespace longhaul::cpu {

bool has_isa(Isa isa);
/// Auto: the widest there is. Throws EngineError("unsupported") when the processor lacks `isa`.
const Kernels& kernels_for(Isa isa);

}  // namespace longhaul::cpu
