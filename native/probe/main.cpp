// longhaul-probe LIBRARY DEVICE CUBLAS_LT NCCL: whether the CUDA backend and NCCL work here, found out in a process of its own.
#include <cstdio>
#include <cstdlib>

#include "../backends/load/cuda_probe.h"

int main(int argc, char** argv) {
  if (argc != 5) {
    std::fprintf(stderr, "usage: longhaul-probe LIBRARY DEVICE CUBLAS_LT NCCL\n");
    return 2;
  }
  return longhaul::run_cuda_probe({argv[1], {std::atoll(argv[2]), argv[3]}, argv[4]});
}
