// A linear layer's weight as the panels that Kernels::multiply reads.
#pragma once

#include <span>

#include "context.h"

namespace longhaul::cpu {

class PackedLinear final : public Linear {
 public:
  PackedLinear(std::span<const Backend::LinearPart> parts, const Kernels& kernels);

  int64_t in() const override { return in_; }
  int64_t out() const override { return out_; }
  /// Panel p: [in, panel_columns], the weights of outputs p * panel_columns and on, zero padded.
  const float* panel(int64_t p) const { return panels_->floats() + p * in_ * panel_columns_; }
  /// The same as pairs of bfloat16 along `in`, [pairs(), panel_columns]: what kernels with
  /// multiply_bf16 read in its place.
  const uint32_t* bf16_panel(int64_t p) const {
    return static_cast<const uint32_t*>(panels_->data()) + p * pairs() * panel_columns_;
  }
  int64_t pairs() const { return (in_ + 1) / 2; }
  int64_t panels() const { return (out_ + panel_columns_ - 1) / panel_columns_; }
  /// [out rounded up to whole panels], or null.
  const float* bias() const { return bias_ ? bias_->floats() : nullptr; }

 private:
  int64_t in_ = 0, out_ = 0, panel_columns_;
  std::unique_ptr<AlignedBuffer> panels_, bias_;
};

}  // namespace longhaul::cpu
