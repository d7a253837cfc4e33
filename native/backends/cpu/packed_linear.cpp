#include "packed_linear.h"

#include <algorithm>

#include "convert.h"

namespace longhaul::cpu {

PackedLinear::PackedLinear(std::span<const Backend::LinearPart> parts, const Kernels& kernels)
    : panel_columns_(kernels.columns) {
  const int64_t panel_columns = kernels.columns;
  require(!parts.empty(), "a linear layer needs at least one weight");
  in_ = parts[0].weight.columns;
  bool has_bias = false;
  for (const Backend::LinearPart& part : parts) {
    require(part.weight.columns == in_, "stacked weights differ in their input width");
    require(part.bias == nullptr || part.bias->rows * part.bias->columns == part.weight.rows,
            "a bias differs from its weight's output width");
    out_ += part.weight.rows;
    has_bias = has_bias || part.bias != nullptr;
  }
  const auto padded = static_cast<size_t>(round_up(out_, panel_columns));
  const bool bf16 = kernels.multiply_bf16 != nullptr;
  const size_t words = padded * static_cast<size_t>(bf16 ? pairs() : in_);  // a float, or a pair
  panels_ = std::make_unique<AlignedBuffer>(words * sizeof(float));
  std::fill_n(panels_->floats(), words, 0.f);
  if (has_bias) {
    bias_ = std::make_unique<AlignedBuffer>(padded * sizeof(float));
    std::fill_n(bias_->floats(), padded, 0.f);
  }
  std::vector<float> line(static_cast<size_t>(in_));
  std::vector<uint32_t> line_pairs(static_cast<size_t>(pairs()));
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
      if (bf16) {
        kernels.to_bf16(line.data(), in_, line_pairs.data());
        auto* to = static_cast<uint32_t*>(panels_->data()) + n / panel_columns * pairs() * panel_columns + n % panel_columns;
        for (int64_t k = 0; k < pairs(); ++k) to[k * panel_columns] = line_pairs[static_cast<size_t>(k)];
        continue;
      }
      float* to = panels_->floats() + n / panel_columns * in_ * panel_columns + n % panel_columns;
      for (int64_t k = 0; k < in_; ++k) to[k * panel_columns] = line[static_cast<size_t>(k)];
    }
  }
}

}  // namespace longhaul::cpu
