// GFLOP/s of the CPU backend: the linear layers of the demo model and of a larger one, attention
// causal and open, and a decode step's products. Prints the best of a few runs; GB/s are of weights,
// or of keys and values.
//
//   bench [isa ...]    isa: portable, avx2, avx512; default: the widest that the processor has
#include <algorithm>
#include <bit>
#include <chrono>
#include <cstdio>
#include <ctime>
#include <fstream>
#include <functional>
#include <string>
#include <vector>

#include "backends/cpu/cpu_backend.h"
#include "backends/cpu/isa.h"

using namespace longhaul;

namespace {

struct Time {
  double wall = 1e9;       // seconds
  double processor = 1e9;  // seconds of all threads together: what counts where others share the cores
};

/// The fastest of at least 3 runs, over about a fifth of a second.
Time best_time(const std::function<void()>& body) {
  using Clock = std::chrono::steady_clock;
  Time best;
  double total = 0;
  for (int run = 0; run < 3 || (total < 0.2 && run < 1000); ++run) {
    const auto start = Clock::now();
    const std::clock_t processor = std::clock();
    body();
    best.processor = std::min(best.processor, static_cast<double>(std::clock() - processor) / CLOCKS_PER_SEC);
    const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
    best.wall = std::min(best.wall, seconds);
    total += seconds;
  }
  return best;
}

void report(const std::string& what, double operations, double bytes, const Time& time) {
  std::printf("  %-40s %8.1f GFLOP/s %8.1f per processor second %8.1f GB/s\n", what.c_str(),
              1e-9 * operations / time.wall, 1e-9 * operations / time.processor, 1e-9 * bytes / time.wall);
}

std::vector<float> numbers(int64_t n) {
  std::vector<float> out(static_cast<size_t>(n));
  uint32_t state = 1;
  for (float& x : out) x = static_cast<float>((state = state * 1664525u + 1013904223u) >> 8) * 0x1p-23f - 1.f;
  return out;
}

void bench_gemm(Backend& backend, int64_t m, int64_t n, int64_t k) {
  const BufferPtr x = backend.allocate(static_cast<size_t>(m * k) * sizeof(float));
  const BufferPtr out = backend.allocate(static_cast<size_t>(m * n) * sizeof(float));
  backend.upload(x->data(), numbers(m * k).data(), x->bytes());
  std::vector<uint16_t> w;  // as checkpoints have them
  for (float value : numbers(n * k)) w.push_back(static_cast<uint16_t>(std::bit_cast<uint32_t>(value) >> 16));
  const HostTensor weight{w.data(), DType::BF16, n, k};
  const Backend::LinearPart part{weight};
  const LinearPtr linear = backend.load_linear({&part, 1});
  const Time time = best_time([&] { backend.gemm({x->data(), m, k, k}, *linear, {out->data(), m, n, n}, false); });
  report("gemm " + std::to_string(m) + " x " + std::to_string(n) + " x " + std::to_string(k),
         2.0 * static_cast<double>(m * n * k), 2.0 * static_cast<double>(n * k), time);
}

void bench_attention(Backend& backend, const Heads& heads, int64_t queries, int64_t keys, bool causal) {
  const int64_t nq = heads.query * heads.dimension, nk = heads.key_value * heads.dimension;
  auto q = numbers(queries * nq), k = numbers(keys * nk), v = numbers(keys * nk);
  std::vector<float> out(static_cast<size_t>(queries * nq));
  const Segment segment{{{k.data(), keys, nk, nk}, {v.data(), keys, nk, nk}}, causal};
  const Time time = best_time([&] {
    backend.attention({q.data(), queries, nq, nq}, {&segment, 1}, heads, {out.data(), queries, nq, nq}, nullptr);
  });
  const double pairs = static_cast<double>(queries) * (static_cast<double>(keys) - (causal ? 0.5 * static_cast<double>(queries - 1) : 0));
  report("attention " + std::to_string(queries) + " x " + std::to_string(keys) + ", D " + std::to_string(heads.dimension) +
             (causal ? ", causal" : ", open"),
         4.0 * pairs * static_cast<double>(nq), 8.0 * static_cast<double>(keys * nk), time);
}

void bench(Isa isa, int threads) {
  const auto backend = make_cpu_backend({threads, isa});
  std::printf("%s\n", backend->description().c_str());
  for (auto [n, k] : {std::pair<int64_t, int64_t>{512, 256}, {256, 256}, {1408, 256}, {256, 704}})
    bench_gemm(*backend, 4096, n, k);  // qkv, output, gate and up, down of the demo model
  bench_gemm(*backend, 512, 2048, 2048);
  for (int64_t m : {1, 4, 16}) bench_gemm(*backend, m, 4096, 4096);
  for (int64_t d : {64, 128})
    for (bool causal : {true, false}) bench_attention(*backend, {4, 2, d}, 2048, 2048, causal);
  bench_attention(*backend, {4, 2, 64}, 1, 65536, true);
}

}  // namespace

int main(int argc, char** argv) {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);)
    if (line.starts_with("model name")) {
      std::printf("%s\n", line.c_str());
      break;
    }
  std::vector<Isa> isas;
  for (int i = 1; i < argc; ++i)
    for (auto [name, isa] : {std::pair{"portable", Isa::Portable}, {"avx2", Isa::Avx2}, {"avx512", Isa::Avx512}})
      if (std::string(argv[i]) == name && cpu::has_isa(isa)) isas.push_back(isa);
  if (argc == 1) isas = {Isa::Auto};
  for (Isa isa : isas)
    for (int threads : {1, 2}) bench(isa, threads);
}
