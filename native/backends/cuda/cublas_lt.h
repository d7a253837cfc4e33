// cuBLASLt, opened at run time: the few types and functions that matrix products need, declared
// here because its headers are not part of every CUDA installation. The numbers are its ABI,
// unchanged from version 11.4 on.
#pragma once

#include <cuda_runtime_api.h>
#include <library_types.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace longhaul::cuda {

namespace lt {

using Handle = void*;
using MatmulDesc = void*;
using MatrixLayout = void*;
using Preference = void*;
using Status = int;  // 0: success

constexpr int kCompute32F = 68;
constexpr int kTransA = 3, kEpilogue = 7, kBiasPointer = 8;           // attributes of a product
constexpr int kMaxWorkspace = 1, kAlignA = 5, kAlignB = 6, kAlignC = 7, kAlignD = 8;  // of a preference
constexpr int32_t kTranspose = 1;
constexpr uint32_t kEpilogueBias = 4;

struct Algorithm {
  uint64_t data[8];
};
struct Heuristic {
  Algorithm algorithm;
  size_t workspace;
  Status state;
  float waves;
  int reserved[4];
};

}  // namespace lt

class CublasLt {
 public:
  /// `path`: a file or a name for the loader; empty: the system's, then those of CUDA toolkits and
  /// of Python packages. Throws EngineError("unsupported") listing where it looked.
  static const CublasLt& open(const std::string& path);

  std::string source;  // where it came from, and its version

  lt::Status (*create)(lt::Handle*);
  lt::Status (*destroy)(lt::Handle);
  size_t (*version)();
  lt::Status (*desc_create)(lt::MatmulDesc*, int compute, cudaDataType_t scale);
  lt::Status (*desc_destroy)(lt::MatmulDesc);
  lt::Status (*desc_set)(lt::MatmulDesc, int attribute, const void*, size_t);
  lt::Status (*layout_create)(lt::MatrixLayout*, cudaDataType_t, uint64_t rows, uint64_t columns, int64_t ld);
  lt::Status (*layout_destroy)(lt::MatrixLayout);
  lt::Status (*preference_create)(lt::Preference*);
  lt::Status (*preference_destroy)(lt::Preference);
  lt::Status (*preference_set)(lt::Preference, int attribute, const void*, size_t);
  lt::Status (*heuristic)(lt::Handle, lt::MatmulDesc, lt::MatrixLayout a, lt::MatrixLayout b, lt::MatrixLayout c,
                          lt::MatrixLayout d, lt::Preference, int wanted, lt::Heuristic*, int* found);
  lt::Status (*matmul)(lt::Handle, lt::MatmulDesc, const void* alpha, const void* a, lt::MatrixLayout, const void* b,
                       lt::MatrixLayout, const void* beta, const void* c, lt::MatrixLayout, void* d, lt::MatrixLayout,
                       const lt::Algorithm*, void* workspace, size_t workspace_bytes, cudaStream_t);

 private:
  CublasLt() = default;
};

/// Throws EngineError("cuda_error") naming the call and cuBLAS' status.
void check_lt(lt::Status status, const char* what);

/// Where cuBLASLt is looked for when no path is given: names for the loader and files that exist.
std::vector<std::string> cublas_lt_candidates();

}  // namespace longhaul::cuda
