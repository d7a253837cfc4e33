// Matrix products through cuBLASLt.
#pragma once

#include <map>
#include <tuple>

#include "cublas_lt.h"
#include "linear.h"

namespace longhaul::cuda {

class Gemm {
 public:
  /// Throws EngineError("unsupported") when cuBLASLt cannot be opened.
  Gemm(DevicePtr device, const std::string& cublas_lt);
  ~Gemm();
  Gemm(const Gemm&) = delete;
  Gemm& operator=(const Gemm&) = delete;

  /// out [T, out] = x [T, in] * weight^T + bias, with `accumulate` +=; bfloat16, float32 sums.
  void multiply(const Matrix& x, const DeviceLinear& weight, const Matrix& out, bool accumulate);
  /// out [T, out] float32, dense.
  void multiply_float(const Matrix& x, const DeviceLinear& weight, float* out);

  const std::string& source() const { return lt_.source; }

 private:
  /// Everything that cuBLASLt's choice depends on; pointers count by their alignment.
  struct Shape {
    int64_t rows, in, out, x_stride, out_stride;
    uint32_t x_align, out_align;
    bool biased, accumulate, to_float;
    auto operator<=>(const Shape&) const = default;
  };
  struct Plan {
    lt::MatmulDesc desc = nullptr;
    lt::MatrixLayout a = nullptr, b = nullptr, d = nullptr;
    lt::Algorithm algorithm{};
    bool found = false;  // false: cuBLASLt has nothing for this shape
  };
  const Plan& plan(const Shape& shape, const Matrix& x, const DeviceLinear& weight, void* out);
  /// Seconds of one run of an algorithm, into memory that nobody reads; infinite if it cannot run.
  float time(const Shape& shape, const Plan& plan, const lt::Heuristic& candidate, const Matrix& x, const DeviceLinear& weight,
             void* out, void* spare);
  void run(const Matrix& x, const DeviceLinear& weight, void* out, int64_t out_stride, bool accumulate, bool to_float);

  DevicePtr device_;
  const CublasLt& lt_;
  lt::Handle handle_ = nullptr;
  DeviceBuffer workspace_;
  std::map<Shape, Plan> plans_;
};

}  // namespace longhaul::cuda
