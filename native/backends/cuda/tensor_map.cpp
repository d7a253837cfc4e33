#include "tensor_map.h"

#include <cuda_runtime_api.h>

#include <string>

#include "../../engine/errors.h"

namespace longhaul::cuda {
namespace {

using Encode = decltype(&cuTensorMapEncodeTiled);

/// From the driver that is there: nothing links against libcuda.
Encode encode_function() {
  void* function = nullptr;
  cudaDriverEntryPointQueryResult found{};
  const cudaError_t error = cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000,
                                                             cudaEnableDefault, &found);
  if (error != cudaSuccess || found != cudaDriverEntryPointSuccess || function == nullptr)
    throw EngineError("cuda_error",
                      "the CUDA driver has no cuTensorMapEncodeTiled: install a driver of CUDA 12.0 or newer");
  return reinterpret_cast<Encode>(function);
}

}  // namespace

CUtensorMap tensor_map(const __nv_bfloat16* data, int64_t rows, int64_t columns, int64_t stride, int box_rows,
                       int box_columns) {
  static const Encode encode = encode_function();
  const cuuint64_t sizes[3] = {64, static_cast<cuuint64_t>(rows), static_cast<cuuint64_t>(columns / 64)};
  const cuuint64_t strides[2] = {static_cast<cuuint64_t>(stride) * sizeof(__nv_bfloat16), 128};  // bytes
  const cuuint32_t box[3] = {64, static_cast<cuuint32_t>(box_rows), static_cast<cuuint32_t>(box_columns)};
  const cuuint32_t steps[3] = {1, 1, 1};
  CUtensorMap map;
  const CUresult result =
      encode(&map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 3, const_cast<__nv_bfloat16*>(data), sizes, strides, box, steps,
             CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
             CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (result != CUDA_SUCCESS)
    throw EngineError("cuda_error", "cuTensorMapEncodeTiled refused rows " + std::to_string(rows) + ", columns " +
                                        std::to_string(columns) + ", stride " + std::to_string(stride) + ": CUresult " +
                                        std::to_string(static_cast<int>(result)));
  return map;
}

}  // namespace longhaul::cuda
