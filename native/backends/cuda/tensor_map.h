// Describes matrices to the copy engine.
#pragma once

#include <cuda.h>
#include <cuda_bf16.h>

#include <cstdint>

namespace longhaul::cuda {

/// Whether the copy engine can address these rows: 16-byte aligned start and stride.
inline bool tensor_map_possible(const void* data, int64_t stride) {
  return reinterpret_cast<uintptr_t>(data) % 16 == 0 && stride % 8 == 0 && stride > 0;
}

/// A bfloat16 matrix [rows, columns] with `stride` elements from row to row, seen as
/// [columns / 64][rows][64]: a box is [box_columns][box_rows][64], swizzled over 128 bytes; rows past the end
/// read as zeros. columns is a multiple of 64, box_rows at most 256. Throws EngineError("cuda_error").
CUtensorMap tensor_map(const __nv_bfloat16* data, int64_t rows, int64_t columns, int64_t stride, int box_rows,
                       int box_columns);

}  // namespace longhaul::cuda
