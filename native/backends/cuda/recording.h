// A decoding step as a CUDA graph: captured once, replayed for other tokens by counters on the device.
#pragma once

#include <functional>

#include "memory.h"

namespace longhaul::cuda {

/// What the kernels of a replayed step read from device memory instead of their arguments.
struct StepCounters {
  uint32_t token;
  int32_t position, rows;
};

class Graph final : public Backend::Recording {
 public:
  /// Captures what `body` enqueues on the device's stream. Throws EngineError("cuda_error").
  Graph(DevicePtr device, const std::function<void()>& body);
  ~Graph() override;
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;

  void launch() const;

 private:
  DevicePtr device_;
  cudaGraphExec_t graph_ = nullptr;
};

}  // namespace longhaul::cuda
