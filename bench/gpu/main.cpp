// bench-cuda: times the CUDA backend; JSON lines on stdout. bench/gpu/run.py puts PyTorch beside it.
//
//   bench-cuda ops | products | prefill TOKENS ANSWER | load DIRECTORY | logits DIRECTORY IDS DOCUMENT QUERY OUT
//     | answers DIRECTORY DOCUMENTS | methods TOKENS RANKS [ONLY] | collectives RANKS | virtual TOKENS RANKS [ONLY]
//
// ONLY: methods by name, with commas: "full,ring zigzag"
#include <cstdlib>
#include <exception>
#include <string_view>

#include "backends/load/cuda_library.h"
#include "ops.h"
#include "timing.h"

int main(int argc, char** argv) {
  const std::string_view what = argc > 1 ? argv[1] : "";
  try {
    const auto gpu = [](int rank) { return longhaul::open_cuda_library({}).make({rank, ""}); };
    const auto first = [&] { return gpu(0); };
    const std::string only = argc > 4 ? argv[4] : "";
    if (what == "methods" && (argc == 4 || argc == 5)) return bench::methods(gpu, std::atoll(argv[2]), std::atoi(argv[3]), only), 0;
    if (what == "collectives" && argc == 3) return bench::collectives(gpu, std::atoi(argv[2])), 0;
    if (what == "virtual" && (argc == 4 || argc == 5)) return bench::virtual_ranks(first, std::atoll(argv[2]), std::atoi(argv[3]), only), 0;
    const auto backend = longhaul::open_cuda_library({}).make({});
    if (what == "ops") bench::ops(*backend);
    else if (what == "products") bench::products(*backend);
    else if (what == "prefill" && argc == 4) bench::prefill(backend, std::atoll(argv[2]), std::atoll(argv[3]));
    else if (what == "load" && argc == 3) bench::load(backend, argv[2]);
    else if (what == "logits" && argc == 7) bench::logits(backend, argv[2], argv[3], std::atoll(argv[4]), std::atoll(argv[5]), argv[6]);
    else if (what == "answers" && argc == 4) bench::answers(argv[2], argv[3], first);
    else return std::fprintf(stderr, "bench-cuda: no such benchmark; the head of bench/gpu/main.cpp lists them\n"), 64;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "bench-cuda: %s\n", error.what());
    return 1;
  }
}
