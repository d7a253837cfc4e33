// longhaul-probe LIBRARY DEVICE CUBLAS_LT: whether the CUDA backend works here, found out in a process of its own.
#include <cstdio>
#include <cstdlib>

#include "../backends/load/cuda_probe.h"

int main(int argc, char** argv) {
  if (argc != 4) {
    std::fprintf(stderr, "usage: longhaul-probe LIBRARY DEVICE CUBLAS_LT\n");
    return 2;
  }
  return longhaul::run_cuda_probe({argv[1], {std::atoll(argv[2]), argv[3]}});
}
