// The row-wise ops of the CPU backend, and its memory, against plain loops in double.
#include <limits>

#include "backend_cases.h"

using namespace cases;

TEST("backend exp: within 2e-7 of exp from -87.3 to 88.3, 0 below and finite above") {
  for (const Table& table : tables()) {
    if (!table.present) continue;
    std::vector<float> x, y;
    for (double v = -87.32; v < 88.36; v += 0.0137) x.push_back(static_cast<float>(v));
    for (float v = -1e-3f; v < 1e-3f; v += 1.7e-6f) x.push_back(v);
    y.resize(x.size());
    table.kernels->exp(x.data(), static_cast<int64_t>(x.size()), y.data());
    for (size_t i = 0; i < x.size(); ++i) {
      const double want = std::exp(static_cast<double>(x[i]));
      CHECK_NEAR(y[i], want, 2e-7 * want);
    }
    const std::vector<float> edges = {0.f, -0.f, -90.f, -1e30f, -std::numeric_limits<float>::infinity(), 100.f,
                                      std::numeric_limits<float>::infinity()};
    std::vector<float> got(edges.size());
    table.kernels->exp(edges.data(), static_cast<int64_t>(edges.size()), got.data());
    CHECK(got[0] == 1.f && got[1] == 1.f && got[2] == 0.f && got[3] == 0.f && got[4] == 0.f);
    CHECK(got[5] > 2e38f && std::isfinite(got[5]) && got[6] == got[5]);
  }
}

TEST("backend embed: rows of the table, as they are") {
  each_backend([](Backend& backend) {
    Random random(1);
    const auto data = random.many(11 * 7);
    const BufferPtr table = backend.load_table(tensor(data, 11, 7));
    const std::vector<uint32_t> tokens = {10, 0, 3, 3};
    Rows out(4, 7);
    backend.embed(table, tokens, out.view());
    for (int64_t i = 0; i < 4; ++i)
      for (int64_t j = 0; j < 7; ++j)
        CHECK(out.at(i, j) == data[tokens[static_cast<size_t>(i)] * 7 + static_cast<size_t>(j)]);
  });
}

TEST("backend rmsnorm: odd widths, in place as well") {
  each_backend([](Backend& backend) {
    Random random(2);
    for (int64_t c : {1, 5, 16, 64, 131, 256})
      for (int64_t t : {0, 1, 9}) {
        const auto w = random.many(c);
        const BufferPtr weight = backend.load_table(tensor(w, 1, c));
        Rows x(random, t, c, 5.f), out(t, c), same = x;
        backend.rmsnorm(x.view(), weight, 1e-5f, out.view());
        backend.rmsnorm(same.view(), weight, 1e-5f, same.view());
        for (int64_t i = 0; i < t; ++i) {
          double squares = 0;
          for (int64_t j = 0; j < c; ++j) squares += static_cast<double>(x.at(i, j)) * x.at(i, j);
          const double factor = 1 / std::sqrt(squares / static_cast<double>(c) + 1e-5);
          for (int64_t j = 0; j < c; ++j) {
            CHECK_NEAR(out.at(i, j), x.at(i, j) * factor * w[static_cast<size_t>(j)], 2e-6);
            CHECK(same.at(i, j) == out.at(i, j));
          }
        }
      }
    const std::vector<float> ones(8, 1.f);
    Rows zero(1, 8), out(1, 8, 3, 7.f);
    backend.rmsnorm(zero.view(), backend.load_table(tensor(ones, 1, 8)), 1e-6f, out.view());
    for (int64_t j = 0; j < 8; ++j) CHECK(out.at(0, j) == 0.f);
  });
}

TEST("backend rope: exact to float up to position one million, after other positions too") {
  each_backend([](Backend& backend) {
    Random random(3);
    for (int64_t half : {1, 4, 10, 32}) {
      Rope rope;
      for (int64_t i = 0; i < half; ++i)
        rope.inverse_frequencies.push_back(std::pow(10000.0, -static_cast<double>(i) / static_cast<double>(half)));
      // The second list differs only in its last element: a kept table must not be taken for it.
      for (const std::vector<int32_t>& positions :
           {std::vector<int32_t>{0, 1, 999'999, 12'345}, {0, 1, 999'999, 1'000'000}, {0, 1, 999'999, 1'000'000}, {5}, {}}) {
        const int64_t heads = 3, d = 2 * half, t = static_cast<int64_t>(positions.size());
        Rows x(random, t, heads * d), got = x;
        backend.rope(got.view(), heads, positions, rope);
        for (int64_t i = 0; i < t; ++i)
          for (int64_t h = 0; h < heads; ++h)
            for (int64_t j = 0; j < half; ++j) {
              const double angle = positions[static_cast<size_t>(i)] * rope.inverse_frequencies[static_cast<size_t>(j)];
              const double a = x.at(i, h * d + j), b = x.at(i, h * d + half + j);
              CHECK_NEAR(got.at(i, h * d + j), a * std::cos(angle) - b * std::sin(angle), 3e-7);
              CHECK_NEAR(got.at(i, h * d + half + j), b * std::cos(angle) + a * std::sin(angle), 3e-7);
            }
      }
    }
    Rope one{{1.0}}, two{{0.5}};  // same positions, other frequencies
    Rows x(1, 2), y(1, 2);
    x.at(0, 0) = y.at(0, 0) = 1.f;
    const std::vector<int32_t> position = {2};
    backend.rope(x.view(), 1, position, one);
    backend.rope(y.view(), 1, position, two);
    CHECK_NEAR(x.at(0, 0), std::cos(2.0), 1e-7);
    CHECK_NEAR(y.at(0, 0), std::cos(1.0), 1e-7);
  });
}

TEST("backend swiglu: odd widths and extreme gates") {
  each_backend([](Backend& backend) {
    Random random(4);
    for (int64_t f : {1, 7, 16, 45, 704}) {
      Rows x(random, 5, 2 * f, 30.f), out(5, f, 3, 7.f);
      x.at(0, 0) = 1000.f;
      x.at(1, 0) = -1000.f;
      backend.swiglu(x.view(), out.view());
      for (int64_t i = 0; i < 5; ++i) {
        for (int64_t j = 0; j < f; ++j) {
          const double gate = x.at(i, j), want = gate / (1 + std::exp(-gate)) * x.at(i, f + j);
          CHECK_NEAR(out.at(i, j), want, 1e-6 * std::abs(want) + 1e-30);
        }
        for (int64_t j = f; j < out.stride; ++j) CHECK(out.at(i, j) == 7.f);
      }
    }
  });
}

TEST("backend memory: aligned, copied as it is, and refused when absurd") {
  each_backend([](Backend& backend) {
    CHECK(backend.element_bytes() == 4 && backend.host_memory());
    for (size_t bytes : {0u, 1u, 100u, 4096u}) {
      const BufferPtr buffer = backend.allocate(bytes);
      CHECK(buffer->data() != nullptr && reinterpret_cast<uintptr_t>(buffer->data()) % 64 == 0);
      CHECK(buffer->bytes() == bytes);
    }
    for (size_t bytes : {size_t{1} << 50, std::numeric_limits<size_t>::max(), std::numeric_limits<size_t>::max() / 2}) {
      const std::string message = CHECK_THROWS(EngineError, "out_of_memory", backend.allocate(bytes));
      CHECK(message.find(std::to_string(bytes)) != std::string::npos);
    }
    Random random(5);
    Rows x(random, 3, 5);
    const BufferPtr a = backend.allocate(60), b = backend.allocate(60);
    std::vector<float> dense(15), back(15);
    backend.download_float(x.view(), dense.data());
    for (int64_t i = 0; i < 3; ++i)
      for (int64_t j = 0; j < 5; ++j) CHECK(dense[static_cast<size_t>(i * 5 + j)] == x.at(i, j));
    backend.upload(a->data(), dense.data(), 60);
    backend.copy(b->data(), a->data(), 60);
    backend.download(back.data(), b->data(), 60);
    backend.synchronize();
    CHECK(back == dense);
  });
}
