// Memory, row-wise ops and products of the CUDA backend against the CPU's.
#include "twins.h"

using namespace twins;

namespace {

constexpr double kRounding = 4e-3;  // of a result in bfloat16: half a unit of 2^-8, and room

LinearPtr linear(Backend& backend, const std::vector<float>& weight, int64_t out, int64_t in, const std::vector<float>* bias = nullptr) {
  HostTensor b;
  if (bias) b = tensor(*bias, 1, out);
  const Backend::LinearPart part{tensor(weight, out, in), bias ? &b : nullptr};
  return backend.load_linear(std::span(&part, 1));
}

}  // namespace

TEST("gpu memory: copies of every size come back as they were; rows, too; absurd sizes are refused") {
  Random random(1);
  for (size_t bytes : {size_t{1}, size_t{4096}, size_t{300'001}, size_t{70'000'003}}) {
    std::vector<uint8_t> data(bytes), back(bytes, 0xee);
    for (size_t i = 0; i < bytes; ++i) data[i] = static_cast<uint8_t>(i * 2654435761u >> 13);
    const BufferPtr a = gpu().allocate(bytes), b = gpu().allocate(bytes);
    gpu().upload(a->data(), data.data(), bytes);
    gpu().copy(b->data(), a->data(), bytes);
    gpu().download(back.data(), b->data(), bytes);
    CHECK(back == data);
  }
  std::vector<uint8_t> data(60), back(60, 0xee);
  for (size_t i = 0; i < 60; ++i) data[i] = static_cast<uint8_t>(i);
  const BufferPtr a = gpu().allocate(60), b = gpu().allocate(60);
  gpu().upload(a->data(), data.data(), 60);
  gpu().upload(b->data(), back.data(), 60);
  gpu().copy_rows(b->data(), 12, static_cast<std::byte*>(a->data()) + 4, 20, 6, 3);
  gpu().download(back.data(), b->data(), 60);
  for (size_t i = 0; i < 60; ++i) CHECK(back[i] == (i < 36 && i % 12 < 6 ? i / 12 * 20 + 4 + i % 12 : 0xee));
  const std::string message = CHECK_THROWS(EngineError, "out_of_memory", gpu().allocate(size_t{1} << 50));
  CHECK(message.find(std::to_string(size_t{1} << 50)) != std::string::npos);
}

TEST("gpu embed: rows of the table as they are, F32, F16 and BF16 checkpoints alike") {
  Random random(2);
  for (int64_t c : {5, 64, 4096}) {
    const auto data = random.many(50 * c);
    std::vector<uint16_t> halves;
    for (const float x : data) halves.push_back(to_bits(x));
    for (const HostTensor& t : {tensor(data, 50, c), HostTensor{halves.data(), DType::BF16, 50, c}}) {
      const BufferPtr on_cpu = cpu().load_table(t), on_gpu = gpu().load_table(t);
      std::vector<uint32_t> tokens;
      for (int i = 0; i < 300; ++i) tokens.push_back(static_cast<uint32_t>(i * 37 % 50));
      Both out(300, c);
      cpu().embed(on_cpu, tokens, out.on_cpu());
      gpu().embed(on_gpu, tokens, out.on_gpu());
      out.check_equal(0, "embed");
    }
  }
  const std::vector<uint16_t> f16 = {0x3c00, 0xc000, 0x0001, 0x7bff};  // 1, -2, the least subnormal, the largest
  const HostTensor t{f16.data(), DType::F16, 1, 4};
  Both out(1, 4);
  const std::vector<uint32_t> token = {0};
  cpu().embed(cpu().load_table(t), token, out.on_cpu());
  gpu().embed(gpu().load_table(t), token, out.on_gpu());
  out.check_equal(kRounding, "embed of F16");
}

TEST("gpu rmsnorm: odd widths and unaligned rows, in place as well") {
  Random random(3);
  for (int64_t c : {1, 5, 64, 131, 192, 4096, 8192, 10240})
    for (int64_t t : {0, 1, 9}) {
      const auto w = random.many(c);
      const BufferPtr on_cpu = cpu().load_table(tensor(w, 1, c)), on_gpu = gpu().load_table(tensor(w, 1, c));
      for (int64_t gap : {0, 3, 8}) {
        Both x(random, t, c, 5.f, gap), out(t, c, gap);
        cpu().rmsnorm(x.on_cpu(), on_cpu, 1e-5f, out.on_cpu());
        gpu().rmsnorm(x.on_gpu(), on_gpu, 1e-5f, out.on_gpu());
        out.check_equal(kRounding, "rmsnorm");
        cpu().rmsnorm(x.on_cpu(), on_cpu, 1e-5f, x.on_cpu());
        gpu().rmsnorm(x.on_gpu(), on_gpu, 1e-5f, x.on_gpu());
        x.check_equal(kRounding, "rmsnorm in place");
      }
    }
}

TEST("gpu gemm: few rows and many, odd widths, biases, residuals, stacked parts") {
  Random random(4);
  struct Shape { int64_t rows, in, out; };
  for (const auto [t, in, out] : {Shape{0, 8, 8}, {1, 7, 3}, {1, 4096, 33}, {5, 129, 65}, {8, 4096, 17}, {9, 64, 40}, {33, 100, 52},
                                  {200, 96, 128}, {257, 512, 384}, {1000, 128, 1000}, {12, 14336, 64}, {8, 14336, 24}})
    for (const bool biased : {false, true})
      for (const bool accumulate : {false, true}) {
        const std::string what = "gemm " + std::to_string(t) + " x " + std::to_string(in) + " x " + std::to_string(out);
        const auto w = random.many(in * out), b = random.many(out, 3.f);
        const LinearPtr on_cpu = linear(cpu(), w, out, in, biased ? &b : nullptr), on_gpu = linear(gpu(), w, out, in, biased ? &b : nullptr);
        const int64_t gap = in % 8 == 0 ? 8 : 3;
        Both x(random, t, in, 1.f, gap), y(random, t, out, 4.f, out % 8 == 0 ? 16 : 5);
        Both fresh(t, out, 0);
        Both& to = accumulate ? y : fresh;
        cpu().gemm(x.on_cpu(), *on_cpu, to.on_cpu(), accumulate);
        gpu().gemm(x.on_gpu(), *on_gpu, to.on_gpu(), accumulate);
        to.check_equal(kRounding, what);
      }
  const auto w1 = random.many(24 * 16), w2 = random.many(8 * 16), b2 = random.many(8);
  const HostTensor bias = tensor(b2, 1, 8);
  const std::vector<Backend::LinearPart> parts = {{tensor(w1, 24, 16), nullptr}, {tensor(w2, 8, 16), &bias}};
  Both x(random, 20, 16, 1.f, 0), y(20, 32, 0);
  cpu().gemm(x.on_cpu(), *cpu().load_linear(parts), y.on_cpu(), false);
  gpu().gemm(x.on_gpu(), *gpu().load_linear(parts), y.on_gpu(), false);
  y.check_equal(kRounding, "gemm of stacked parts");
}

TEST("gpu gemm_slice: parts of outputs and of inputs, aligned and not, biases") {
  Random random(41);
  struct Shape { int64_t rows, in, out; Backend::Slice slice; };
  for (const auto& [t, in, out, slice] : {Shape{1, 4096, 512, {128, 256, 0, 4096}}, {1, 14336, 64, {0, 64, 7168, 7168}}, {3, 96, 40, {5, 20, 8, 48}},
                                          {2, 100, 33, {1, 32, 3, 51}}, {1, 64, 16, {0, 16, 0, 24}}})
    for (const bool biased : {false, true}) {
      const auto w = random.many(in * out), b = random.many(out, 3.f);
      const LinearPtr on_cpu = linear(cpu(), w, out, in, biased ? &b : nullptr), on_gpu = linear(gpu(), w, out, in, biased ? &b : nullptr);
      Both x(random, t, slice.ins, 1.f, slice.ins % 8 == 0 ? 8 : 3), y(t, slice.outs, 0);
      cpu().gemm_slice(x.on_cpu(), *on_cpu, slice, y.on_cpu());
      gpu().gemm_slice(x.on_gpu(), *on_gpu, slice, y.on_gpu());
      y.check_equal(kRounding, "gemm_slice of " + std::to_string(in) + " x " + std::to_string(out));
    }
}

TEST("gpu add_parts: in order, any number of them") {
  Random random(42);
  for (const int64_t count : {1, 2, 8})
    for (const int64_t columns : {5, 4096}) {
      Both parts(random, count * 3, columns, 1.f, 0), x(random, 3, columns, 4.f);
      cpu().add_parts(count, parts.on_cpu(), x.on_cpu());
      gpu().add_parts(count, parts.on_gpu(), x.on_gpu());
      x.check_equal(kRounding, "add_parts");
    }
}

TEST("gpu logits: float32, as many rows as there are") {
  Random random(5);
  for (int64_t t : {1, 3, 40}) {
    const int64_t c = 192, v = 1001;
    const auto w = random.many(v * c);
    Both x(random, t, c);
    std::vector<float> want(static_cast<size_t>(t * v)), got(want.size(), NAN);
    cpu().logits(x.on_cpu(), *linear(cpu(), w, v, c), want.data());
    gpu().logits(x.on_gpu(), *linear(gpu(), w, v, c), got.data());
    CHECK(relative_error(got, want) < 1e-5);
  }
}

TEST("gpu rope: positions up to a million, in order and in none; odd heads") {
  Random random(6);
  for (int64_t half : {1, 4, 10, 16, 32, 64}) {
    Rope rope;
    for (int64_t i = 0; i < half; ++i)
      rope.inverse_frequencies.push_back(std::pow(500000.0, -static_cast<double>(i) / static_cast<double>(half)));
    for (const std::vector<int32_t>& positions : {std::vector<int32_t>{0, 1, 999'999, 12'345}, {999'997, 999'998, 999'999, 1'000'000}, {7}, {}}) {
      Both x(random, static_cast<int64_t>(positions.size()), 3 * 2 * half, 1.f, half % 8 == 0 ? 8 : 3);
      cpu().rope(x.on_cpu(), 3, positions, rope);
      gpu().rope(x.on_gpu(), 3, positions, rope);
      x.check_equal(kRounding, "rope");
    }
  }
}

TEST("gpu swiglu: odd widths and extreme gates, onto its own gates as well") {
  Random random(7);
  for (int64_t f : {1, 7, 16, 45, 704, 14336}) {
    Both x(random, 5, 2 * f, 30.f, f % 8 == 0 ? 0 : 3), out(5, f, f % 8 == 0 ? 8 : 3);
    cpu().swiglu(x.on_cpu(), out.on_cpu());
    gpu().swiglu(x.on_gpu(), out.on_gpu());
    out.check_equal(kRounding, "swiglu");
    const auto gate = [&](Matrix m) { return Matrix{m.data, m.rows, f, m.stride}; };
    cpu().swiglu(x.on_cpu(), gate(x.on_cpu()));
    gpu().swiglu(x.on_gpu(), gate(x.on_gpu()));
    x.check_equal(kRounding, "swiglu in place");
  }
}
