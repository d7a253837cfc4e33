// GFLOP/s of the CPU backend's linear layers beside oneDNN's matmul (weights packed ahead), in turns, on as many
// threads as OMP_NUM_THREADS says. Needs libdnnl-dev; `make -C native bench-onednn`.
//
//   bench-onednn [rounds, default 7]
#include <algorithm>
#include <bit>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <functional>
#include <oneapi/dnnl/dnnl.hpp>
#include <string>
#include <tuple>
#include <vector>

#include "backends/cpu/cpu_backend.h"
#include "backends/cpu/isa.h"

using namespace longhaul;
using dnnl::memory;

namespace {

struct Candidate {
  std::string name;
  std::function<void()> run;
  std::vector<double> gflops = {};
};

/// GFLOP/s over about a fiftieth of a second; of one thread by processor time, so that others may use the machine.
double measure(const Candidate& candidate, double flop, int threads) {
  const auto now = [&] {
    if (threads == 1) return static_cast<double>(std::clock()) / CLOCKS_PER_SEC;
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
  };
  const double start = now();
  double seconds = 0;
  int runs = 0;
  do {
    candidate.run();
    ++runs;
    seconds = now() - start;
  } while (seconds < 0.02);
  return 1e-9 * flop * runs / seconds;
}

Candidate onednn(memory::data_type type, int64_t m, int64_t n, int64_t k, const std::vector<float>& x,
                 const std::vector<float>& w) {
  using dt = memory::data_type;
  using tag = memory::format_tag;
  const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  dnnl::stream stream(engine);
  const memory::desc in({m, k}, type, tag::ab), packed({k, n}, type, tag::any), out({m, n}, dt::f32, tag::ab);
  const dnnl::matmul::primitive_desc description(dnnl::matmul::desc(in, packed, out), engine);
  const memory to_x(in, engine), to_w(description.weights_desc(), engine), to_y(out, engine);
  memory from_x({{m, k}, dt::f32, tag::ab}, engine, const_cast<float*>(x.data()));
  memory from_w({{k, n}, dt::f32, tag::ba}, engine, const_cast<float*>(w.data()));
  memory packed_x = to_x, packed_w = to_w;
  dnnl::reorder(from_x, packed_x).execute(stream, from_x, packed_x);
  dnnl::reorder(from_w, packed_w).execute(stream, from_w, packed_w);
  stream.wait();
  return {type == dt::f32 ? "oneDNN, float32" : "oneDNN, bf16",
          [product = dnnl::matmul(description), stream, to_x, to_w, to_y]() mutable {
            product.execute(stream, {{DNNL_ARG_SRC, to_x}, {DNNL_ARG_WEIGHTS, to_w}, {DNNL_ARG_DST, to_y}});
            stream.wait();
          }};
}

std::vector<float> numbers(int64_t n, uint32_t state) {
  std::vector<float> out(static_cast<size_t>(n));
  for (float& x : out)  // exact in bfloat16
    x = static_cast<float>(static_cast<int>((state = state * 1664525u + 1013904223u) >> 24) - 128) / 128.f;
  return out;
}

void compare(int64_t m, int64_t n, int64_t k, int threads, int rounds) {
  const std::vector<float> x = numbers(m * k, 1), w = numbers(n * k, 2);
  std::vector<uint16_t> halves;
  for (float value : w) halves.push_back(static_cast<uint16_t>(std::bit_cast<uint32_t>(value) >> 16));
  std::vector<Candidate> all = {onednn(memory::data_type::f32, m, n, k, x, w)};
  const auto add = [&](const char* name, const std::shared_ptr<Backend>& backend, const HostTensor& weight) {
    const Backend::LinearPart part{weight};
    const LinearPtr linear = backend->load_linear({&part, 1});
    const BufferPtr in = backend->allocate(x.size() * sizeof(float));
    const BufferPtr out = backend->allocate(static_cast<size_t>(m * n) * sizeof(float));
    backend->upload(in->data(), x.data(), in->bytes());
    all.push_back({backend->description() + name,
                   [=] { backend->gemm({in->data(), m, k, k}, *linear, {out->data(), m, n, n}, false); }});
  };
  const HostTensor wide{w.data(), DType::F32, n, k}, half{halves.data(), DType::BF16, n, k};
  add(", float32 weights", make_cpu_backend({threads}), wide);
  add(", bf16 weights", make_cpu_backend({threads}), half);
  if (cpu::has_bf16()) {
    all.push_back(onednn(memory::data_type::bf16, m, n, k, x, w));
    add("", make_cpu_backend({threads, Isa::Auto, Precision::Bf16}), half);
  }
  const double flop = 2.0 * static_cast<double>(m * n * k);
  for (Candidate& one : all) one.run();
  for (int round = 0; round < rounds; ++round)
    for (Candidate& one : all) one.gflops.push_back(measure(one, flop, threads));
  std::printf("gemm %ld x %ld x %ld\n", static_cast<long>(m), static_cast<long>(n), static_cast<long>(k));
  std::vector<std::vector<double>> ratios(all.size());
  for (size_t i = 0; i < all.size(); ++i)
    for (size_t r = 0; r < all[i].gflops.size(); ++r) ratios[i].push_back(all[i].gflops[r] / all[0].gflops[r]);
  const auto median = [](std::vector<double> v) {
    std::sort(v.begin(), v.end());
    return v[v.size() / 2];
  };
  for (size_t i = 0; i < all.size(); ++i)
    std::printf("  %-62s median %7.1f  best %7.1f GFLOP/s  median ratio to oneDNN, float32 %.2f\n", all[i].name.c_str(),
                median(all[i].gflops), *std::max_element(all[i].gflops.begin(), all[i].gflops.end()), median(ratios[i]));
  std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
  const char* threads = std::getenv("OMP_NUM_THREADS");
  if (threads == nullptr) return std::fputs("set OMP_NUM_THREADS, which oneDNN goes by\n", stderr), 64;
  for (auto [m, n, k] : {std::tuple<int64_t, int64_t, int64_t>{4096, 512, 256}, {4096, 256, 256}, {4096, 1408, 256},
                         {4096, 256, 704}, {512, 2048, 2048}})
    compare(m, n, k, std::atoi(threads), argc > 1 ? std::atoi(argv[1]) : 7);
}
