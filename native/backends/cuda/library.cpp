// The one symbol that libapb_cuda.so exports.
#include "cuda_backend.h"
#include "seam.h"

extern "C" __attribute__((visibility("default"))) const longhaul::cuda::Abi* longhaul_cuda_abi() {
  static const longhaul::cuda::Abi abi{LONGHAUL_SEAM, longhaul::cuda::probe, longhaul::cuda::make};
  return &abi;
}
