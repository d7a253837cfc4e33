// A stream beside the backend's own, for collectives.
#pragma once

#include "memory.h"

namespace longhaul::cuda {

class SideStream final : public Stream {
 public:
  explicit SideStream(DevicePtr device);
  ~SideStream() override;
  SideStream(const SideStream&) = delete;
  SideStream& operator=(const SideStream&) = delete;

  void* handle() override;
  void follow() override;
  void precede() override;
  bool done() override;

 private:
  DevicePtr device_;
  cudaStream_t stream_ = nullptr;
  cudaEvent_t reached_ = nullptr;  // how far the backend's stream had come
  cudaEvent_t here_ = nullptr;     // how far this one had come
};

}  // namespace longhaul::cuda
