#include "gemm.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "check.h"
#include "gemv.h"

namespace longhaul::cuda {
namespace {

constexpr size_t kWorkspace = 64 << 20;  // split-k sums; Hopper's kernels want 32 MiB or more

// cuBLASLt's first choice is up to 8 % slower than its best one. Products of many rows, which a prefill repeats
// for every layer, are timed once per shape; few rows keep the first choice, so that decoding is the same on every rank.
constexpr int64_t kTimedRows = 1024;
constexpr int kCandidates = 8, kTimedRuns = 4;
constexpr float kWorthwhile = 0.99f;  // a later candidate must be faster by more than noise

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
const Gemm::Plan& Gemm::plan(const Shape& shape, const Matrix& x, const DeviceLinear& weight, void* out) {
  if (const auto at = plans_.find(shape); at != plans_.end()) return at->second;
  Plan plan;
  const auto rows = static_cast<uint64_t>(shape.rows), in = static_cast<uint64_t>(shape.in), wide = static_cast<uint64_t>(shape.out);
  check_lt(lt_.desc_create(&plan.desc, lt::kCompute32F, CUDA_R_32F), "describing a product");
  check_lt(lt_.desc_set(plan.desc, lt::kTransA, &lt::kTranspose, sizeof lt::kTranspose), "describing a product");
  if (shape.biased) {
    const void* bias = weight.bias();
    check_lt(lt_.desc_set(plan.desc, lt::kEpilogue, &lt::kEpilogueBias, sizeof lt::kEpilogueBias), "describing a bias");
    check_lt(lt_.desc_set(plan.desc, lt::kBiasPointer, &bias, sizeof bias), "describing a bias");
  }
  check_lt(lt_.layout_create(&plan.a, CUDA_R_16BF, in, wide, shape.in), "describing a weight");
  check_lt(lt_.layout_create(&plan.b, CUDA_R_16BF, in, rows, shape.x_stride), "describing an input");
  check_lt(lt_.layout_create(&plan.d, shape.to_float ? CUDA_R_32F : CUDA_R_16BF, wide, rows, shape.out_stride), "describing an output");

  lt::Preference preference = nullptr;
  check_lt(lt_.preference_create(&preference), "choosing an algorithm");
  const uint64_t workspace = kWorkspace;
  const uint32_t weight_align = 256;
  lt_.preference_set(preference, lt::kMaxWorkspace, &workspace, sizeof workspace);
  lt_.preference_set(preference, lt::kAlignA, &weight_align, sizeof weight_align);
  lt_.preference_set(preference, lt::kAlignB, &shape.x_align, sizeof shape.x_align);
  lt_.preference_set(preference, lt::kAlignC, &shape.out_align, sizeof shape.out_align);
  lt_.preference_set(preference, lt::kAlignD, &shape.out_align, sizeof shape.out_align);
  std::array<lt::Heuristic, kCandidates> candidates{};
  int found = 0;
  const bool timed = shape.rows >= kTimedRows && !shape.to_float;
  const lt::Status status = lt_.heuristic(handle_, plan.desc, plan.a, plan.b, plan.d, plan.d, preference, timed ? kCandidates : 1,
                                          candidates.data(), &found);
  lt_.preference_destroy(preference);
  plan.found = status == 0 && found > 0 && candidates[0].state == 0;
  plan.algorithm = candidates[0].algorithm;
  if (timed && found > 1) {
    const DeviceBuffer spare(device_, static_cast<size_t>(shape.rows * shape.out_stride) * 2);
    float best = INFINITY;
    for (int i = 0; i < found; ++i) {
      const float seconds = time(shape, plan, candidates[static_cast<size_t>(i)], x, weight, out, spare.data());
      if (seconds >= best * (i == 0 ? 1.f : kWorthwhile)) continue;
      best = seconds;
      plan.algorithm = candidates[static_cast<size_t>(i)].algorithm;
    }
  }
  return plans_.emplace(shape, plan).first->second;
}

float Gemm::time(const Shape& shape, const Plan& plan, const lt::Heuristic& candidate, const Matrix& x, const DeviceLinear& weight,
                 void* out, void* spare) {
  if (candidate.state != 0) return INFINITY;
  const float one = 1.f, beta = shape.accumulate ? 1.f : 0.f;
  cudaEvent_t start = nullptr, end = nullptr;
  check(cudaEventCreate(&start), "timing a product");
  check(cudaEventCreate(&end), "timing a product");
  float best = INFINITY;
  for (int i = 0; i < kTimedRuns; ++i) {
    cudaEventRecord(start, device_->stream());
    const lt::Status status = lt_.matmul(handle_, plan.desc, &one, weight.weight(), plan.a, x.data, plan.b, &beta, out, plan.d, spare,
                                         plan.d, &candidate.algorithm, workspace_.data(), kWorkspace, device_->stream());
    cudaEventRecord(end, device_->stream());
    float milliseconds = INFINITY;
    if (status != 0 || cudaEventSynchronize(end) != cudaSuccess || cudaEventElapsedTime(&milliseconds, start, end) != cudaSuccess) {
      best = INFINITY;
      break;
    }
    if (i > 0) best = std::min(best, milliseconds);  // the first run loads the kernel
  }
  cudaEventDestroy(start), cudaEventDestroy(end);
  check_launch("timing a product");
  return best;
}

void Gemm::run(const Matrix& x, const DeviceLinear& weight, void* out, int64_t out_stride, bool accumulate, bool to_float) {
  const Shape shape{x.rows, weight.in(), weight.out(), x.stride, out_stride, alignment(x.data), alignment(out),
                    weight.bias() != nullptr, accumulate, to_float};
  const auto plain = [&] {
    gemv(*device_, x, whole(weight), to_float ? nullptr : static_cast<__nv_bfloat16*>(out),
         to_float ? static_cast<float*>(out) : nullptr, out_stride, accumulate);
  };
  if (x.rows == 0) return;
  if (few_rows(x.rows, weight.in())) return plain();
  const Plan& chosen = plan(shape, x, weight, out);
  if (!chosen.found) return plain();  // widths that leave rows unaligned
  if (const void* bias = weight.bias()) check_lt(lt_.desc_set(chosen.desc, lt::kBiasPointer, &bias, sizeof bias), "setting a bias");
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
