// Checkpoint element types to float32.
#pragma once

#include <cstdint>

#include "../backend.h"

namespace longhaul::cpu {

/// out [columns] = row `row` of the tensor.
void convert_row(const HostTensor& tensor, int64_t row, float* out);

/// The nearest bfloat16, ties to even; NaN stays NaN. Exact for what was bfloat16.
uint32_t to_bf16(float x);

}  // namespace longhaul::cpu
