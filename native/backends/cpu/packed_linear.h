// A linear layer's weight as the panels that Kernels::multiply reads.
#pragma once

#include <bit>
#include <span>

#include "context.h"

namespace longhaul::cpu {

class PackedLinear final : public Linear {
 public:
  PackedLinear(std::span<const Backend::LinearPart> parts, const Kernels& kernels);

  int64_t in() const override { return in_; }
  int64_t out() const override { return out_; }
  /// Whether the weights are kept as bfloat16: where the checkpoint has them so, which loses nothing,
  /// and for kernels that multiply bfloat16.
  bool paired() const { return paired_; }
  /// Panel p: [in, panel_columns], the weights of outputs p * panel_columns and on, zero padded.
  const float* panel(int64_t p) const { return panels_->floats() + p * in_ * panel_columns_; }
  /// The same of paired weights: [pairs(), panel_columns], two neighbours along `in` in a word, the
  /// first in the lower half. What is missing in the last ones is zero.
  const uint32_t* paired_panel(int64_t p) const {
    return static_cast<const uint32_t*>(panels_->data()) + p * pairs() * panel_columns_;
  }
  int64_t pairs() const { return round_up(in_, 2 * kPairs) / 2; }
  int64_t panels() const { return (out_ + panel_columns_ - 1) / panel_columns_; }
  /// One weight, for those who want few.
  float at(int64_t out, int64_t in) const {
    const int64_t panel = out / panel_columns_, lane = out % panel_columns_;
    if (!paired_) return this->panel(panel)[in * panel_columns_ + lane];
    const uint32_t word = paired_panel(panel)[in / 2 * panel_columns_ + lane];
    return std::bit_cast<float>(in % 2 ? word & 0xffff0000u : word << 16);
  }
  /// [out rounded up to whole panels], or null.
  const float* bias() const { return bias_ ? bias_->floats() : nullptr; }

 private:
  int64_t in_ = 0, out_ = 0, panel_columns_;
  bool paired_;
  std::unique_ptr<AlignedBuffer> panels_, bias_;
};

}  // namespace longhaul::cpu
