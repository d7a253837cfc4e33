// fuzz [seconds] [seed]: every native parser of outside bytes, side by side, each for that long.
#include <sys/resource.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "fuzz.h"

int main(int argc, char** argv) {
  const double seconds = argc > 1 ? std::strtod(argv[1], nullptr) : 20;
  const uint64_t seed = argc > 2 ? std::strtoull(argv[2], nullptr, 10) : std::random_device{}();
  if (!(seconds > 0)) {
    std::fprintf(stderr, "fuzz: '%s' is no number of seconds\n", argv[1]);
    return 2;
  }
  std::printf("fuzz: seed %llu, %.0f s each\n", static_cast<unsigned long long>(seed), seconds);
  std::fflush(stdout);
  const auto until = fuzz::Clock::now() + std::chrono::duration_cast<fuzz::Clock::duration>(std::chrono::duration<double>(seconds));
  std::atomic<int> failed{0};
  std::vector<std::thread> threads;
  const auto start = [&](const char* name, size_t (*target)(fuzz::Random&, fuzz::Clock::time_point)) {
    threads.emplace_back([&failed, name, target, seed, until] {
      fuzz::Random random(seed);
      try {
        std::printf("ok   %s: %zu inputs\n", name, target(random, until));
      } catch (const std::exception& error) {
        std::printf("FAIL %s (seed %llu): %s\n", name, static_cast<unsigned long long>(seed), error.what());
        ++failed;
      }
      std::fflush(stdout);
    });
  };
  start("safetensors", fuzz::safetensors);
  start("communicator frames", fuzz::frames);
  for (auto& thread : threads) thread.join();
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  std::printf("fuzz: at most %ld MB\n", usage.ru_maxrss / 1024);
  return failed > 0 ? 1 : 0;
}
