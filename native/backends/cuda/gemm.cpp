#include "gemm.h"

#include <algorithm>

#include "check.h"
#include "gemv.h"

namespace longhaul::cuda {
namespace {

constexpr size_t kWorkspace = 64 << 20;  // split-k sums; Hopper's kernels want 32 MiB or more

/// The largest power of two up to 256 that divides the address.
uint32_t alignment(const void* data) {
  const auto bits = reinterpret_cast<uintptr_t>(data) | 256;
  return static_cast<uint32_t>(bits & (~bits + 1));
}

}  // namespace

Gemm::Gemm(DevicePtr device, const std::string& cublas_lt)
    : device_(std::move(device)), lt_(CublasLt::open(cublas_lt)), workspace_(device_, kWorkspace) {
  check_lt(lt_.create(&handle_), "opening");
}

Gemm::~Gemm() {
  for (auto& [shape, plan] : plans_) {
    for (lt::MatrixLayout layout : {plan.a, plan.b, plan.d})
      if (layout) lt_.layout_destroy(layout);
    if (plan.desc) lt_.desc_destroy(plan.desc);
  }
  if (handle_) lt_.destroy(handle_);
}

/// cuBLAS thinks in columns: out^T [out, T] = weight (read as [in, out], transposed) * x^T [in, T].
const Gemm::Plan& Gemm::plan(const Shape& shape, const void* bias) {
  if (const auto at = plans_.find(shape); at != plans_.end()) return at->second;
  Plan& plan = plans_[shape];
  const auto rows = static_cast<uint64_t>(shape.rows), in = static_cast<uint64_t>(shape.in), out = static_cast<uint64_t>(shape.out);
  check_lt(lt_.desc_create(&plan.desc, lt::kCompute32F, CUDA_R_32F), "describing a product");
  check_lt(lt_.desc_set(plan.desc, lt::kTransA, &lt::kTranspose, sizeof lt::kTranspose), "describing a product");
  if (shape.biased) {
    check_lt(lt_.desc_set(plan.desc, lt::kEpilogue, &lt::kEpilogueBias, sizeof lt::kEpilogueBias), "describing a bias");
    check_lt(lt_.desc_set(plan.desc, lt::kBiasPointer, &bias, sizeof bias), "describing a bias");
  }
  check_lt(lt_.layout_create(&plan.a, CUDA_R_16BF, in, out, shape.in), "describing a weight");
  check_lt(lt_.layout_create(&plan.b, CUDA_R_16BF, in, rows, shape.x_stride), "describing an input");
  check_lt(lt_.layout_create(&plan.d, shape.to_float ? CUDA_R_32F : CUDA_R_16BF, out, rows, shape.out_stride), "describing an output");

  lt::Preference preference = nullptr;
  check_lt(lt_.preference_create(&preference), "choosing an algorithm");
  const uint64_t workspace = kWorkspace;
  const uint32_t weight_align = 256;
  lt_.preference_set(preference, lt::kMaxWorkspace, &workspace, sizeof workspace);
  lt_.preference_set(preference, lt::kAlignA, &weight_align, sizeof weight_align);
  lt_.preference_set(preference, lt::kAlignB, &shape.x_align, sizeof shape.x_align);
  lt_.preference_set(preference, lt::kAlignC, &shape.out_align, sizeof shape.out_align);
  lt_.preference_set(preference, lt::kAlignD, &shape.out_align, sizeof shape.out_align);
  lt::Heuristic best{};
  int found = 0;
  const lt::Status status = lt_.heuristic(handle_, plan.desc, plan.a, plan.b, plan.d, plan.d, preference, 1, &best, &found);
  lt_.preference_destroy(preference);
  plan.found = status == 0 && found > 0 && best.state == 0;
  plan.algorithm = best.algorithm;
  return plan;
}

void Gemm::run(const Matrix& x, const DeviceLinear& weight, void* out, int64_t out_stride, bool accumulate, bool to_float) {
  const Shape shape{x.rows, weight.in(), weight.out(), x.stride, out_stride, alignment(x.data), alignment(out),
                    weight.bias() != nullptr, accumulate, to_float};
  const auto plain = [&] {
    gemv(*device_, x, weight, to_float ? nullptr : static_cast<__nv_bfloat16*>(out),
         to_float ? static_cast<float*>(out) : nullptr, out_stride, accumulate);
  };
  if (x.rows == 0) return;
  if (few_rows(x.rows, weight.in())) return plain();
  const void* bias = weight.bias();
  const Plan& chosen = plan(shape, bias);
  if (!chosen.found) return plain();  // widths that leave rows unaligned
  if (bias) check_lt(lt_.desc_set(chosen.desc, lt::kBiasPointer, &bias, sizeof bias), "setting a bias");
  const float one = 1.f, beta = accumulate ? 1.f : 0.f;
  check_lt(lt_.matmul(handle_, chosen.desc, &one, weight.weight(), chosen.a, x.data, chosen.b, &beta, out, chosen.d, out,
                      chosen.d, &chosen.algorithm, workspace_.data(), kWorkspace, device_->stream()),
           "multiplying");
}

void Gemm::multiply(const Matrix& x, const DeviceLinear& weight, const Matrix& out, bool accumulate) {
  require(x.columns == weight.in() && out.columns == weight.out() && x.rows == out.rows,
          "gemm: x, weight and out differ in shape");
  run(x, weight, out.data, out.stride, accumulate, false);
}

void Gemm::multiply_float(const Matrix& x, const DeviceLinear& weight, float* out) {
  require(x.columns == weight.in(), "logits: x and head differ in shape");
  run(x, weight, out, weight.out(), false, true);
}

}  // namespace longhaul::cuda
