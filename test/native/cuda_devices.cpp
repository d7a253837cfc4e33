// Which GPUs the CUDA backend accepts: by compute capability, without a GPU.
#include "backends/cuda/devices.h"

#include "check.h"

using longhaul::cuda::lacking_device;

TEST("a GPU of compute capability 9.0 lacks nothing") {
  CHECK(lacking_device({0, "NVIDIA H100 80GB HBM3", 9, 0}).empty());
  CHECK(lacking_device({3, "NVIDIA H200", 9, 0}).empty());
}

TEST("any other GPU is refused by name, older or newer: machine code of sm_90a runs on neither") {
  CHECK(lacking_device({1, "NVIDIA A100-SXM4-80GB", 8, 0}) ==
        "a GPU of compute capability 9.0 (H100, H200): GPU 1, NVIDIA A100-SXM4-80GB, has 8.0; choose another "
        "GPU with CUDA_VISIBLE_DEVICES, or use --backend cpu");
  for (const auto& [major, minor] : {std::pair{7, 5}, {8, 6}, {8, 9}, {9, 1}, {10, 0}, {12, 0}}) {
    const std::string has = "GPU 0, a card, has " + std::to_string(major) + "." + std::to_string(minor) + ";";
    CHECK(lacking_device({0, "a card", major, minor}).find(has) != std::string::npos);
  }
}
