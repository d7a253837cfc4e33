// Which GPU a backend gets, and whether it can use it.
#pragma once

#include <string>
#include <vector>

#include "abi.h"

namespace longhaul::cuda {

struct DeviceFacts {
  int index = 0;
  std::string name;
  int major = 0, minor = 0;  // of its compute capability
};

/// What is missing when the kernels, which are machine code of sm_90a alone, are to run on this GPU; empty: nothing.
inline std::string lacking_device(const DeviceFacts& gpu) {
  if (gpu.major == 9 && gpu.minor == 0) return "";
  return "a GPU of compute capability 9.0 (H100, H200): GPU " + std::to_string(gpu.index) + ", " + gpu.name + ", has " +
         std::to_string(gpu.major) + "." + std::to_string(gpu.minor) + "; choose another GPU with CUDA_VISIBLE_DEVICES, or use --backend cpu";
}

/// Index of the GPU that the options mean; what it takes and is not there is added to `missing`.
int find_device(const DeviceOptions& options, std::vector<std::string>& missing);

}  // namespace longhaul::cuda
