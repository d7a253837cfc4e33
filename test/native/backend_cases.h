// The CPU backends that every backend test runs on, and data for them.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "backends/cpu/cpu_backend.h"
#include "backends/cpu/isa.h"
#include "backends/cpu/with_kernels.h"
#include "check.h"
#include "engine/errors.h"

namespace cases {

using namespace longhaul;

/// One table of kernels; `present` is false where this processor cannot run it.
struct Table {
  std::string name;
  const cpu::Kernels* kernels;
  bool present;
};
std::vector<Table> tables();

}  // namespace cases

namespace longhaul::cpu {
const Kernels& bf16_loop_kernels();  // backend_bf16_avx2.cpp, x86-64 only
}

namespace cases {

/// Runs the body on every table that is present, with one thread and with two. A failure names both.
void each_backend(const std::function<void(Backend&)>& body);

/// Reproducible numbers in [-1, 1].
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed * 2654435769u + 1) {}
  float next() {
    state_ = state_ * 6364136223846793005u + 1442695040888963407u;
    return static_cast<float>(static_cast<double>(state_ >> 11) * 0x1p-52 - 1.0);
  }
  std::vector<float> many(int64_t n, float scale = 1.f) {
    std::vector<float> out(static_cast<size_t>(n));
    for (float& x : out) x = scale * next();
    return out;
  }

 private:
  uint64_t state_;
};

/// Rows in host memory (the CPU backend's memory is the host's), `gap` floats between rows.
struct Rows {
  Rows(int64_t rows, int64_t columns, int64_t gap = 3, float fill = 0.f)
      : data(static_cast<size_t>(rows * (columns + gap)), fill), rows(rows), columns(columns), stride(columns + gap) {}
  Rows(Random& random, int64_t rows, int64_t columns, float scale = 1.f, int64_t gap = 3) : Rows(rows, columns, gap) {
    for (float& x : data) x = scale * random.next();
  }
  float& at(int64_t i, int64_t j) { return data[static_cast<size_t>(i * stride + j)]; }
  float at(int64_t i, int64_t j) const { return data[static_cast<size_t>(i * stride + j)]; }
  Matrix view() { return {data.data(), rows, columns, stride}; }

  std::vector<float> data;
  int64_t rows, columns, stride;
};

inline HostTensor tensor(const std::vector<float>& data, int64_t rows, int64_t columns) {
  return {data.data(), DType::F32, rows, columns};
}

}  // namespace cases
