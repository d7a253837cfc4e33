#include "convert.h"

#include <bit>
#include <cmath>
#include <cstring>

namespace longhaul::cpu {
namespace {

float from_bf16(uint16_t bits) { return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16); }

float from_f16(uint16_t bits) {
  const uint32_t sign = static_cast<uint32_t>(bits & 0x8000u) << 16;
  const uint32_t exponent = (bits >> 10) & 31u, mantissa = bits & 1023u;
  if (exponent == 0)  // zero or subnormal: mantissa * 2^-24, exact in float
    return std::copysign(static_cast<float>(mantissa) * 0x1p-24f, std::bit_cast<float>(sign));
  const uint32_t wide = exponent == 31 ? 255u : exponent + 127 - 15;  // 31: infinity or NaN
  return std::bit_cast<float>(sign | wide << 23 | mantissa << 13);
}

/// Files are mapped as they lie, so that a tensor may start at an odd address: memcpy, not a cast.
template <class Element, class Convert>
void convert(const unsigned char* from, int64_t n, Convert to_float, float* out) {
  for (int64_t i = 0; i < n; ++i) {
    Element element;
    std::memcpy(&element, from + i * static_cast<int64_t>(sizeof(Element)), sizeof(Element));
    out[i] = to_float(element);
  }
}

}  // namespace

void convert_row(const HostTensor& tensor, int64_t row, float* out) {
  const auto* bytes = static_cast<const unsigned char*>(tensor.data);
  const int64_t n = tensor.columns;
  switch (tensor.dtype) {
    case DType::F32: std::memcpy(out, bytes + row * n * 4, static_cast<size_t>(n) * 4); return;
    case DType::F16: return convert<uint16_t>(bytes + row * n * 2, n, from_f16, out);
    case DType::BF16: return convert<uint16_t>(bytes + row * n * 2, n, from_bf16, out);
  }
}

uint32_t to_bf16(float x) {
  const auto bits = std::bit_cast<uint32_t>(x);
  if (std::isnan(x)) return bits >> 16 | 64u;
  return (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
}

}  // namespace longhaul::cpu
