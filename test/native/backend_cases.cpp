#include "backend_cases.h"

#include <cstdio>

namespace longhaul::cpu {
const Kernels& wide_avx2_kernels();  // backend_wide_avx2.cpp, x86-64 only
}

namespace cases {

std::vector<Table> tables() {
  std::vector<Table> out = {{"portable", &cpu::portable_kernels(), true}};
#if defined(__x86_64__)
  out.push_back({"avx2", &cpu::avx2_kernels(), cpu::has_isa(Isa::Avx2)});
  out.push_back({"16-wide on avx2", &cpu::wide_avx2_kernels(), cpu::has_isa(Isa::Avx2)});
  out.push_back({"avx512", &cpu::avx512_kernels(), cpu::has_isa(Isa::Avx512)});
#endif
  return out;
}

void each_backend(const std::function<void(Backend&)>& body) {
  for (const Table& table : tables()) {
    if (!table.present) continue;  // the first test of this file prints which
    for (int threads : {1, 2}) {
      const auto backend = cpu::backend_with_kernels(*table.kernels, threads);
      try {
        body(*backend);
      } catch (const std::exception& error) {
        throw std::runtime_error(backend->description() + ": " + error.what());
      }
    }
  }
}

}  // namespace cases

using namespace cases;

TEST("backend: the kernels of every instruction set of this processor are tested") {
  int present = 0;
  for (const Table& table : tables()) {
    std::printf("     kernels '%s': %s\n", table.name.c_str(), table.present ? "tested" : "NOT TESTED, the processor lacks them");
    present += table.present;
  }
  CHECK(present >= 1);
}

TEST("backend: an instruction set that the processor lacks is refused, and described otherwise") {
  for (const auto& [isa, name] : {std::pair{Isa::Portable, "portable"}, {Isa::Avx2, "avx2"}, {Isa::Avx512, "avx512"}}) {
    if (cpu::has_isa(isa))
      CHECK(make_cpu_backend({2, isa})->description() == std::string("cpu (") + name + ", 2 threads)");
    else
      CHECK_THROWS(EngineError, "unsupported", make_cpu_backend({1, isa}));
  }
  CHECK(make_cpu_backend({})->description().find("1 thread)") != std::string::npos);
  CHECK_THROWS(EngineError, "invalid_argument", make_cpu_backend({0, Isa::Auto}));
}
