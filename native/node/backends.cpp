#include "backends.h"

#include <algorithm>
#include <array>
#include <thread>
#include <utility>

#include "../backends/cpu/cpu_backend.h"
#include "../backends/cpu/isa.h"
#include "../backends/load/cuda_probe.h"
#include "../engine/errors.h"

namespace longhaul::node {
namespace {

constexpr int64_t kMostThreads = 1024;

Isa parse_isa(const std::string& name) {
  constexpr std::array<std::pair<const char*, Isa>, 4> known = {
      {{"auto", Isa::Auto}, {"portable", Isa::Portable}, {"avx2", Isa::Avx2}, {"avx512", Isa::Avx512}}};
  for (const auto& [text, isa] : known) {
    if (name == text) return isa;
  }
  throw EngineError("invalid_argument", "isa is '" + name + "'; give auto, portable, avx2 or avx512");
}

Precision parse_precision(const std::string& name) {
  if (name == "float32") return Precision::Float32;
  if (name == "bf16") return Precision::Bf16;
  throw EngineError("invalid_argument", "precision is '" + name + "'; give float32 or bf16");
}

}  // namespace

Capabilities capabilities(const CudaOptions& cuda) {
  Capabilities found{{"cpu"},
                     cpu::kernels_for(Isa::Auto).name,
                     static_cast<int>(std::max(1u, std::thread::hardware_concurrency())),
                     probe_cuda(cuda)};
  if (found.cuda.missing.empty()) found.backends.emplace_back("cuda");
  return found;
}

std::shared_ptr<Backend> make_backend(const BackendOptions& options) {
  const auto& [name, threads, isa, cuda, precision_name, document_memory] = options;
  const Precision precision = parse_precision(precision_name);
  if (name != "cpu" && name != "cuda" && name != "auto") {
    throw EngineError("invalid_argument", "backend is '" + name + "'; give cpu, cuda or auto");
  }
  if (threads < 1 || threads > kMostThreads) {
    throw EngineError("invalid_argument", "threads is " + std::to_string(threads) + "; give 1 to " + std::to_string(kMostThreads));
  }
  if (document_memory < 0)
    throw EngineError("invalid_argument", "documentMemory is " + std::to_string(document_memory) + "; it cannot be negative");
  if (name != "cpu") {
    const cuda::Report& report = probe_cuda(cuda);
    if (report.missing.empty()) return open_cuda_library(cuda).make(cuda.device);
    if (name == "cuda") {
      std::string missing;
      for (const std::string& item : report.missing) missing += (missing.empty() ? "" : "; and ") + item;
      throw EngineError("unsupported", "backend is 'cuda', and this machine lacks " + missing + "; or give cpu or auto");
    }
  }
  return make_cpu_backend({static_cast<int>(threads), parse_isa(isa), precision, static_cast<size_t>(document_memory)});
}

}  // namespace longhaul::node
