// A linear layer's weight on the GPU.
#pragma once

#include <cuda_bf16.h>

#include "memory.h"

namespace longhaul::cuda {

class DeviceLinear final : public Linear {
 public:
  DeviceLinear(const DevicePtr& device, int64_t in, int64_t out, bool biased)
      : in_(in), out_(out), weight_(device, static_cast<size_t>(in * out) * 2) {
    if (biased) bias_ = std::make_unique<DeviceBuffer>(device, static_cast<size_t>(out) * 2);
  }

  int64_t in() const override { return in_; }
  int64_t out() const override { return out_; }
  __nv_bfloat16* weight() const { return static_cast<__nv_bfloat16*>(weight_.data()); }  // [out, in]
  __nv_bfloat16* bias() const { return bias_ ? static_cast<__nv_bfloat16*>(bias_->data()) : nullptr; }  // [out]

 private:
  int64_t in_, out_;
  DeviceBuffer weight_;
  std::unique_ptr<DeviceBuffer> bias_;
};

inline const DeviceLinear& on_device(const Linear& linear) { return static_cast<const DeviceLinear&>(linear); }

}  // namespace longhaul::cuda
