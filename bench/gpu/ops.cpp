#include "ops.h"

#include <cmath>
#include <cstring>

#include "timing.h"

namespace bench {
namespace {

constexpr int64_t C = 4096, F = 14336, NQ = 32, NK = 8, D = 128, R = 1024, QKV = (NQ + 2 * NK) * D;

/// About normal numbers as bfloat16 bits: sums of four uniform ones.
std::vector<uint16_t> random_bits(int64_t n, float scale, uint64_t seed) {
  std::vector<uint16_t> out(static_cast<size_t>(n));
  for (uint16_t& bits : out) {
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    const auto part = [&](int shift) { return static_cast<float>(seed >> shift & 4095) / 4096.f - 0.5f; };
    const float x = scale * 1.73f * (part(52) + part(40) + part(28) + part(16));
    uint32_t word;
    std::memcpy(&word, &x, 4);
    bits = static_cast<uint16_t>((word + 0x8000u) >> 16);
  }
  return out;
}

struct Owned {
  BufferPtr buffer;
  Matrix view;
};

class Shapes {
 public:
  explicit Shapes(Backend& backend) : backend_(backend) {}
  Owned random(int64_t rows, int64_t columns) {
    const auto bits = random_bits(rows * columns, 1.f, ++seed_);
    Owned m = empty(rows, columns);
    backend_.upload(m.buffer->data(), bits.data(), bits.size() * 2);
    return m;
  }
  Owned empty(int64_t rows, int64_t columns) {
    const BufferPtr buffer = backend_.allocate(static_cast<size_t>(rows * columns) * 2);
    return {buffer, {buffer->data(), rows, columns, columns}};
  }
  LinearPtr linear(int64_t out, int64_t in) {
    const auto bits = random_bits(out * in, 0.02f, ++seed_);
    const Backend::LinearPart part{{bits.data(), DType::BF16, out, in}, nullptr};
    LinearPtr linear = backend_.load_linear(std::span(&part, 1));
    backend_.synchronize();
    return linear;
  }

 private:
  Backend& backend_;
  uint64_t seed_ = 0;
};

void all_products(Backend& backend, Shapes& make) {
  struct Weight { const char* name; int64_t out, in; bool residual; };
  for (const Weight& w : {Weight{"qkv", QKV, C, false}, {"o", C, NQ * D, true}, {"gate and up", 2 * F, C, false}, {"down", C, F, true}, {"fc1", R, QKV, false}}) {
    const LinearPtr weight = make.linear(w.out, w.in);
    for (const int64_t rows : {int64_t{1}, int64_t{4096}, int64_t{8192}}) {
      const Owned x = make.random(rows, w.in), y = make.random(rows, w.out);
      const std::string shape = std::to_string(rows) + "x" + std::to_string(w.in) + "x" + std::to_string(w.out);
      const double read = static_cast<double>(rows * w.in + w.in * w.out), written = static_cast<double>(rows * w.out);
      const double flops = 2 * static_cast<double>(rows) * static_cast<double>(w.in * w.out);
      report("gemm " + shape, seconds(backend, [&] { backend.gemm(x.view, *weight, y.view, false); }), 2 * (read + written), flops, w.name);
      if (!w.residual) continue;
      report("gemm + residual " + shape, seconds(backend, [&] { backend.gemm(x.view, *weight, y.view, true); }), 2 * (read + 2 * written), flops, w.name);
    }
  }
  const LinearPtr head = make.linear(128256, C);
  const Owned x = make.random(1, C);
  std::vector<float> logits(128256);
  report("logits, one row, on the host", seconds(backend, [&] { backend.logits(x.view, *head, logits.data()); }), 2.0 * 128256 * C, 2.0 * 128256 * C);
}

void row_ops(Backend& backend, Shapes& make) {
  constexpr int64_t T = 16384;
  constexpr double n = T;
  const std::vector<float> ones(C, 1.f);
  const BufferPtr norm = backend.load_table({ones.data(), DType::F32, 1, C});
  const Owned x = make.random(T, C), y = make.empty(T, C);
  report("copy, 16384x4096", seconds(backend, [&] { backend.copy(y.buffer->data(), x.buffer->data(), T * C * 2); }), n * C * 4, 0);
  report("rmsnorm, 16384x4096", seconds(backend, [&] { backend.rmsnorm(x.view, norm, 1e-5f, y.view); }), n * C * 4, 0);
  const Owned gate_up = make.random(T, 2 * F);
  const Matrix gate{gate_up.view.data, T, F, 2 * F};
  report("swiglu in place, 16384x14336", seconds(backend, [&] { backend.swiglu(gate_up.view, gate); }), n * F * 6, 0);
  const Owned qkv = make.random(T, QKV), q = make.empty(T, NQ * D), keys = make.empty(T, NK * D), values = make.empty(T, NK * D);
  Rope rope;
  for (int i = 0; i < D / 2; ++i) rope.inverse_frequencies.push_back(std::pow(500000.0, -i * 2.0 / D));
  const Heads heads{NQ, NK, D};
  report("rope and split into q, k, v, 16384 rows", seconds(backend, [&] { backend.split_heads(qkv.view, heads, 100000, rope, q.view, {keys.view, values.view}); }), n * QKV * 4, 0);
  std::vector<uint32_t> tokens(T);
  for (size_t i = 0; i < tokens.size(); ++i) tokens[i] = static_cast<uint32_t>(i * 7919 % 16384);
  report("embed, 16384 tokens", seconds(backend, [&] { backend.embed(x.buffer, tokens, y.view); }), n * C * 4, 0);

  const LinearPtr fc1 = make.linear(R, QKV), fc2 = make.linear(NK, R);
  const BufferPtr scores = backend.allocate(NK * T * 4), indices = backend.allocate(NK * 2048 * 4);
  auto* s = static_cast<float*>(scores->data());
  auto* chosen = static_cast<int32_t*>(indices->data());
  report("retaining scores, 16384 rows", seconds(backend, [&] { backend.retaining_scores(qkv.view, *fc1, *fc2, s); }),
         2 * n * (QKV + 2.0 * R), 2 * n * (static_cast<double>(QKV) * R + static_cast<double>(R) * NK));
  const LinearPtr weight = make.linear(QKV, C), folded = make.linear(QKV + R, C);
  const Owned hidden = make.empty(T, R), together = make.empty(T, QKV + R);
  const double flops = 2 * n * C * QKV;
  report("qkv and fc1, 16384 rows", seconds(backend, [&] { backend.gemm(x.view, *weight, qkv.view, false), backend.gemm(qkv.view, *fc1, hidden.view, false); }),
         2 * n * (C + 2.0 * QKV + R), flops + 2 * n * QKV * static_cast<double>(R));
  report("qkv and fc1 folded into it, 16384 rows", seconds(backend, [&] { backend.gemm(x.view, *folded, together.view, false); }),
         2 * n * (C + QKV + R), flops + 2 * n * C * static_cast<double>(R));
  report("max_pool, 8x16384", seconds(backend, [&] { backend.max_pool(s, NK, T); }), n * NK * 8, 0);
  backend.retaining_scores(qkv.view, *fc1, *fc2, s);  // without the ties of repeated pooling
  const Owned out_keys = make.empty(2048, NK * D), out_values = make.empty(2048, NK * D);
  const auto top = [&] { backend.top_indices(s, NK, T, 0, 2048, chosen); };
  const auto gather = [&] { backend.gather({keys.view, values.view}, chosen, 2048, 0, heads, {out_keys.view, out_values.view}); };
  report("top 2048 of 16384, 8 heads", seconds(backend, top), n * NK * 4, 0);
  report("gather 2048 rows of 8 heads, K and V", seconds(backend, gather), 2048.0 * NK * D * 8, 0);
  report("top 2048 of 16384 and gather", seconds(backend, [&] { top(), gather(); }), n * NK * 4 + 2048.0 * NK * D * 8, 0);
}

}  // namespace

void ops(Backend& backend) {
  Shapes make(backend);
  row_ops(backend, make);
}

void products(Backend& backend) {
  in_turns = true;
  Shapes make(backend);
  all_products(backend, make);
}

}  // namespace bench
