// Whether the CUDA backend works on this machine: everything it needs is named, and a product must come out right.
#include <algorithm>

#include "cublas_lt.h"
#include "cuda_backend.h"
#include "devices.h"
#include "engine/errors.h"

namespace longhaul::cuda {

Report probe(const DeviceOptions& options) {
  Report report;
  find_device(options, report.missing);
  try {
    report.cublas_lt = CublasLt::open(options.cublas_lt).source;
  } catch (const EngineError& error) {
    report.missing.emplace_back(error.what());
  }
  if (!report.missing.empty()) return report;
  try {
    const std::shared_ptr<Backend> backend = make(options);
    report.description = backend->description();
    // One product through cuBLASLt and back: 16 ones times 16 ones.
    constexpr int64_t n = 16;
    const std::vector<float> ones(n * n, 1.f);
    const HostTensor tensor{ones.data(), DType::F32, n, n};
    const Backend::LinearPart part{tensor, nullptr};
    const LinearPtr weight = backend->load_linear(std::span(&part, 1));
    const BufferPtr x = backend->load_table(tensor), y = backend->allocate(n * n * 2);
    backend->gemm({x->data(), n, n, n}, *weight, {y->data(), n, n, n}, false);
    std::vector<float> out(n * n);
    backend->download_float({y->data(), n, n, n}, out.data());
    if (std::any_of(out.begin(), out.end(), [](float value) { return value != 16.f; }))
      report.missing.emplace_back("a GPU that computes rightly: a product of ones came out as " + std::to_string(out[0]) + " instead of 16");
  } catch (const EngineError& error) {
    report.missing.emplace_back(std::string("a GPU that works: ") + error.what());
  }
  return report;
}

}  // namespace longhaul::cuda
