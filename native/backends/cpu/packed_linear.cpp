#include "packed_linear.h"

#include <algorithm>

#include "convert.h"

namespace longhaul::cpu {

PackedLinear::PackedLinear(std::span<const Backend::LinearPart> parts, const Kernels& kernels)
    : panel_columns_(kernels.columns), paired_(kernels.multiply_bf16 != nullptr) {
  require(!parts.empty(), "a linear layer needs at least one weight");
  in_ = parts[0].weight.columns;
  bool has_bias = false, exact = true;
  for (const Backend::LinearPart& part : parts) {
    require(part.weight.columns == in_, "stacked weights differ in their input width");
    require(part.bias == nullptr || part.bias->rows * part.bias->columns == part.weight.rows,
            "a bias differs from its weight's output width");
    out_ += part.weight.rows;
    has_bias = has_bias || part.bias != nullptr;
    exact = exact && part.weight.dtype == DType::BF16;
  }
  paired_ = paired_ || exact;
  const auto padded = static_cast<size_t>(round_up(out_, panel_columns_));
  const size_t words = padded * static_cast<size_t>(paired_ ? pairs() : in_);  // a float, or a pair
  panels_ = std::make_unique<AlignedBuffer>(words * sizeof(float));
  std::fill_n(panels_->floats(), words, 0.f);
  if (has_bias) {
    bias_ = std::make_unique<AlignedBuffer>(padded * sizeof(float));
    std::fill_n(bias_->floats(), padded, 0.f);
  }
  std::vector<float> line(static_cast<size_t>(in_));
  int64_t n = 0;  // output column
  for (const Backend::LinearPart& part : parts) {
    if (part.bias != nullptr) {
      HostTensor flat = *part.bias;
      flat.rows = 1;
      flat.columns = part.weight.rows;
      convert_row(flat, 0, bias_->floats() + n);
    }
    for (int64_t i = 0; i < part.weight.rows; ++i, ++n) {
      convert_row(part.weight, i, line.data());
      const int64_t panel = n / panel_columns_ * panel_columns_, lane = n % panel_columns_;
      if (paired_) {
        auto* to = static_cast<uint32_t*>(panels_->data()) + panel * pairs() + lane;
        for (int64_t k = 0; k < in_; ++k)
          to[k / 2 * panel_columns_] |= to_bf16(line[static_cast<size_t>(k)]) << (k % 2 * 16);
      } else {
        float* to = panels_->floats() + panel * in_ + lane;
        for (int64_t k = 0; k < in_; ++k) to[k * panel_columns_] = line[static_cast<size_t>(k)];
      }
    }
  }
}

}  // namespace longhaul::cpu
