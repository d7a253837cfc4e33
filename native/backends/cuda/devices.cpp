#include "devices.h"

#include <cuda_runtime_api.h>

namespace longhaul::cuda {

int find_device(const DeviceOptions& options, std::vector<std::string>& missing) {
  int driver = 0, count = 0;
  if (cudaDriverGetVersion(&driver) != cudaSuccess || driver == 0) {
    missing.emplace_back("the NVIDIA driver (libcuda.so.1); install it");
    return 0;
  }
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status != cudaSuccess || count == 0) {
    missing.push_back(std::string("a GPU that the NVIDIA driver shows to this process (") + cudaGetErrorString(status) +
                      "); check nvidia-smi and CUDA_VISIBLE_DEVICES");
    return 0;
  }
  const auto index = static_cast<int>(options.device % count);
  cudaDeviceProp properties;
  if (cudaGetDeviceProperties(&properties, index) != cudaSuccess) {
    missing.push_back("GPU " + std::to_string(index) + ": its properties cannot be read; restart the driver");
  } else if (const std::string lacking = lacking_device({index, properties.name, properties.major, properties.minor}); !lacking.empty()) {
    missing.push_back(lacking);
  }
  return index;
}

}  // namespace longhaul::cuda
