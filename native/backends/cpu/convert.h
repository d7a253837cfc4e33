// Checkpoint element types to float32.
#pragma once

#include <cstdint>

#include "../backend.h"

namespace longhaul::cpu {

/// out [columns] = row `row` of the tensor.
void convert_row(const HostTensor& tensor, int64_t row, float* out);

}  // namespace longhaul::cpu
