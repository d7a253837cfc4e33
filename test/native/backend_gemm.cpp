// Linear layers of the CPU backend against plain loops in double.
#include <bit>
#include <cstring>

#include "backend_cases.h"

using namespace cases;

namespace {

/// out[i, j] of x W^T + bias (+ before), and the sum of magnitudes that bounds its rounding error.
void check_gemm(const Rows& x, const std::vector<float>& w, const std::vector<float>& bias, const Rows& before,
                const Rows& got, bool accumulate) {
  for (int64_t i = 0; i < got.rows; ++i)
    for (int64_t j = 0; j < got.columns; ++j) {
      double want = bias.empty() ? 0 : bias[static_cast<size_t>(j)], size = std::abs(want);
      if (accumulate) want += before.at(i, j), size += std::abs(before.at(i, j));
      for (int64_t k = 0; k < x.columns; ++k) {
        const double term = static_cast<double>(x.at(i, k)) * w[static_cast<size_t>(j * x.columns + k)];
        want += term, size += std::abs(term);
      }
      CHECK_NEAR(got.at(i, j), want, 1e-6 * size + 1e-30);
    }
  for (int64_t i = 0; i < got.rows; ++i)  // the gap between rows is not out's
    for (int64_t j = got.columns; j < got.stride; ++j) CHECK(got.at(i, j) == before.at(i, j));
}

uint16_t bf16(float x) { return static_cast<uint16_t>(std::bit_cast<uint32_t>(x) >> 16); }

}  // namespace

TEST("backend gemm: odd shapes, with and without bias and accumulate, equal plain loops") {
  each_backend([](Backend& backend) {
    Random random(1);
    for (int64_t m : {0, 1, 2, 3, 5, 7, 12, 16, 17, 95, 97, 205})
      for (auto [n, k] : {std::pair<int64_t, int64_t>{1, 1}, {15, 3}, {16, 8}, {33, 64}, {70, 401}, {64, 777}}) {
        if (m > 20 && n * k > 10000) continue;  // keeps the sanitized run short
        const auto w = random.many(n * k), b = random.many(n);
        const HostTensor weight = tensor(w, n, k), bias = tensor(b, 1, n);
        for (bool with_bias : {false, true})
          for (bool accumulate : {false, true}) {
            const Backend::LinearPart part{weight, with_bias ? &bias : nullptr};
            const LinearPtr linear = backend.load_linear({&part, 1});
            CHECK(linear->in() == k && linear->out() == n);
            Rows x(random, m, k), before(random, m, n), out = before;
            backend.gemm(x.view(), *linear, out.view(), accumulate);
            check_gemm(x, w, with_bias ? b : std::vector<float>{}, before, out, accumulate);
          }
      }
  });
}

TEST("backend gemm: deep and wide products over several blocks, and many rows on two threads") {
  each_backend([](Backend& backend) {
    Random random(2);
    for (auto [m, n, k] : {std::tuple<int64_t, int64_t, int64_t>{25, 40, 1100}, {400, 20, 70}, {100, 300, 33}}) {
      const auto w = random.many(n * k);
      const HostTensor weight = tensor(w, n, k);
      const Backend::LinearPart part{weight};
      Rows x(random, m, k), before(m, n), out = before;
      backend.gemm(x.view(), *backend.load_linear({&part, 1}), out.view(), false);
      check_gemm(x, w, {}, before, out, false);
    }
  });
}

TEST("backend gemm_slice and add_parts: slices of a weight's inputs add up to the whole product, the bias once") {
  each_backend([](Backend& backend) {
    Random random(4);
    const int64_t m = 3, n = 37, k = 50;
    const auto w = random.many(n * k), b = random.many(n);
    const HostTensor weight = tensor(w, n, k), bias = tensor(b, 1, n);
    const Backend::LinearPart part{weight, &bias};
    const LinearPtr linear = backend.load_linear({&part, 1});
    Rows x(random, m, k), before(random, m, n), whole = before, got = before, parts(2 * m, n);
    backend.gemm(x.view(), *linear, whole.view(), true);
    for (const auto& [first, ins, index] : {std::tuple<int64_t, int64_t, int64_t>{0, 19, 0}, {19, 31, 1}}) {
      Matrix columns = x.view(), out = parts.view();
      columns.data = static_cast<float*>(columns.data) + first, columns.columns = ins;
      out.data = static_cast<float*>(out.data) + index * m * out.stride, out.rows = m;
      backend.gemm_slice(columns, *linear, {0, n, first, ins}, out);
    }
    backend.add_parts(2, parts.view(), got.view());
    for (int64_t i = 0; i < m; ++i)
      for (int64_t j = 0; j < n; ++j) CHECK_NEAR(got.at(i, j), whole.at(i, j), 1e-5);
    Rows some(m, 11);
    backend.gemm_slice(x.view(), *linear, {20, 11, 0, k}, some.view());
    for (int64_t i = 0; i < m; ++i)
      for (int64_t j = 0; j < 11; ++j) CHECK_NEAR(some.at(i, j), whole.at(i, 20 + j) - before.at(i, 20 + j), 1e-5);
  });
}

TEST("backend gemm: stacked parts lie side by side and a missing bias is zero") {
  each_backend([](Backend& backend) {
    Random random(3);
    const int64_t k = 19;
    const auto wa = random.many(21 * k), wb = random.many(10 * k), wc = random.many(5 * k), bias_b = random.many(10);
    const HostTensor a = tensor(wa, 21, k), b = tensor(wb, 10, k), c = tensor(wc, 5, k), bias = tensor(bias_b, 1, 10);
    const Backend::LinearPart parts[] = {{a}, {b, &bias}, {c}};
    std::vector<float> all = wa, all_bias(36, 0.f);
    all.insert(all.end(), wb.begin(), wb.end());
    all.insert(all.end(), wc.begin(), wc.end());
    std::copy(bias_b.begin(), bias_b.end(), all_bias.begin() + 21);
    const LinearPtr linear = backend.load_linear(parts);
    Rows x(random, 9, k), before(9, 36), out = before;
    backend.gemm(x.view(), *linear, out.view(), false);
    check_gemm(x, all, all_bias, before, out, false);
    std::vector<float> logits(9 * 36);
    backend.logits(x.view(), *linear, logits.data());
    for (int64_t i = 0; i < 9; ++i)
      for (int64_t j = 0; j < 36; ++j) CHECK(logits[static_cast<size_t>(i * 36 + j)] == out.at(i, j));
  });
}

TEST("backend gemm: bfloat16 and float16 weights, also at odd addresses, are converted exactly") {
  each_backend([](Backend& backend) {
    // Float16 bits and their values: subnormals, the largest and both signs among them.
    const std::vector<uint16_t> halves = {0x3c00, 0xc000, 0x0001, 0x83ff, 0x7bff, 0x0000};
    const std::vector<float> values = {1.f, -2.f, 0x1p-24f, -0x1.ff8p-15f, 65504.f, 0.f};
    std::vector<float> shortened;  // what bfloat16 keeps of them
    std::vector<unsigned char> raw(1 + halves.size() * 2), raw16(raw.size());
    for (size_t i = 0; i < halves.size(); ++i) {
      const uint16_t bits = bf16(values[i]);
      shortened.push_back(std::bit_cast<float>(static_cast<uint32_t>(bits) << 16));
      std::memcpy(&raw[1 + 2 * i], &halves[i], 2);
      std::memcpy(&raw16[1 + 2 * i], &bits, 2);
    }
    const auto n = static_cast<int64_t>(halves.size());
    for (const HostTensor& weight : {HostTensor{raw.data() + 1, DType::F16, n, 1}, HostTensor{raw16.data() + 1, DType::BF16, n, 1}}) {
      const Backend::LinearPart part{weight};
      Rows x(1, 1), out(1, n);
      x.at(0, 0) = 1.f;
      backend.gemm(x.view(), *backend.load_linear({&part, 1}), out.view(), false);
      const BufferPtr table = backend.load_table(weight);
      for (int64_t j = 0; j < n; ++j) {
        const float want = (weight.dtype == DType::F16 ? values : shortened)[static_cast<size_t>(j)];
        CHECK_NEAR(out.at(0, j), want, 0);
        CHECK_NEAR(static_cast<float*>(table->data())[j], want, 0);
      }
    }
  });
}

TEST("backend gemm: weights kept as bfloat16 give the bits of the same weights in float32, for few rows and many") {
  each_backend([](Backend& backend) {
    Random random(7);
    for (auto [n, k] : {std::pair<int64_t, int64_t>{1, 1}, {33, 64}, {70, 401}, {40, 777}}) {
      auto w = random.many(n * k);
      const auto b = random.many(n);
      std::vector<uint16_t> halves;
      for (float& value : w) {
        halves.push_back(bf16(value));
        value = std::bit_cast<float>(static_cast<uint32_t>(halves.back()) << 16);
      }
      const HostTensor wide = tensor(w, n, k), kept{halves.data(), DType::BF16, n, k}, bias = tensor(b, 1, n);
      const Backend::LinearPart wide_part{wide, &bias}, part{kept, &bias};
      const LinearPtr whole = backend.load_linear({&wide_part, 1}), half = backend.load_linear({&part, 1});
      for (int64_t m : {1, 2, 3, 5, 16, 17, 97, 205}) {
        if (m > 20 && n * k > 20000) continue;  // keeps the sanitized run short
        for (bool accumulate : {false, true}) {
          Rows x(random, m, k), want(random, m, n), got = want;
          backend.gemm(x.view(), *whole, want.view(), accumulate);
          backend.gemm(x.view(), *half, got.view(), accumulate);
          CHECK(got.data == want.data);
        }
      }
    }
  });
}

TEST("backend gemm: the same bits from every number of threads and from every call") {
  for (const Table& table : tables()) {
    if (!table.present) continue;
    Random random(4);
    const int64_t m = 410, n = 40, k = 1050;  // the last rows alone would be few
    const auto w = random.many(n * k);
    const HostTensor weight = tensor(w, n, k);
    const Backend::LinearPart part{weight};
    Rows x(random, m, k);
    std::vector<float> first;
    for (int threads : {1, 2, 3, 1}) {
      const auto backend = cpu::backend_with_kernels(*table.kernels, threads);
      Rows out(m, n);
      backend->gemm(x.view(), *backend->load_linear({&part, 1}), out.view(), false);
      if (first.empty()) first = out.data;
      CHECK(out.data == first);
    }
  }
}

#if defined(__x86_64__)
TEST("backend gemm: bfloat16 products round both sides to bfloat16 and nothing else") {
  std::vector<std::shared_ptr<Backend>> backends;
  if (cpu::has_isa(Isa::Avx2)) backends.push_back(cpu::backend_with_kernels(cpu::bf16_loop_kernels(), 2));
  if (cpu::has_amx()) backends.push_back(cpu::backend_with_kernels(cpu::avx512_bf16_kernels(), 2));
  if (cpu::has_bf16()) backends.push_back(make_cpu_backend({2, Isa::Auto, Precision::Bf16}));
  else CHECK_THROWS(EngineError, "unsupported", make_cpu_backend({1, Isa::Auto, Precision::Bf16}));
  CHECK_THROWS(EngineError, "unsupported", make_cpu_backend({1, Isa::Avx2, Precision::Bf16}));
  const auto rounded = [](float x) {  // to nearest even
    const auto bits = std::bit_cast<uint32_t>(x);
    return std::bit_cast<float>((bits + 0x7fffu + (bits >> 16 & 1u)) & 0xffff0000u);
  };
  for (const auto& backend : backends) {
    CHECK(backend->description().find("bf16 products") != std::string::npos);
    Random random(6);
    for (auto [m, n, k] : {std::tuple<int64_t, int64_t, int64_t>{1, 33, 7}, {5, 64, 64}, {20, 33, 96}, {33, 32, 1100}, {130, 70, 701}}) {
      auto w = random.many(n * k);
      const auto bias = random.many(n);
      const HostTensor weight = tensor(w, n, k), offset = tensor(bias, 1, n);
      const Backend::LinearPart part{weight, &offset};
      Rows x(random, m, k), before(random, m, n), out = before;
      backend->gemm(x.view(), *backend->load_linear({&part, 1}), out.view(), true);
      for (float& value : w) value = rounded(value);
      for (float& value : x.data) value = rounded(value);
      check_gemm(x, w, bias, before, out, true);
    }
  }
}
#endif

TEST("backend gemm: shapes that do not fit are refused") {
  const auto backend = make_cpu_backend({});
  Random random(5);
  const auto w = random.many(12);
  const HostTensor weight = tensor(w, 3, 4), other = tensor(w, 4, 3);
  const Backend::LinearPart part{weight}, mixed[] = {{weight}, {other}};
  const LinearPtr linear = backend->load_linear({&part, 1});
  Rows x(2, 5), out(2, 3);
  CHECK_THROWS(EngineError, "invalid_argument", backend->gemm(x.view(), *linear, out.view(), false));
  CHECK_THROWS(EngineError, "invalid_argument", backend->load_linear(mixed));
}
