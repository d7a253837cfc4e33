// Selection ops of the CUDA backend against the CPU's.
#include <algorithm>
#include <limits>

#include "twins.h"

using namespace twins;

namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

LinearPtr linear(Backend& backend, const std::vector<float>& weight, int64_t out, int64_t in) {
  const Backend::LinearPart part{tensor(weight, out, in), nullptr};
  return backend.load_linear(std::span(&part, 1));
}

}  // namespace

TEST("gpu retaining_scores: one line per KV head, any widths") {
  Random random(1);
  struct Shape { int64_t rows, width, hidden, heads; };
  for (const auto [t, width, hidden, nk] : {Shape{0, 8, 8, 2}, {1, 24, 20, 3}, {13, 40, 33, 1}, {230, 128, 64, 2}, {300, 384, 1024, 8}, {17, 64, 64, 11}}) {
    const auto w1 = random.many(hidden * width, 0.2f), w2 = random.many(nk * hidden);
    Both x(random, t, width, 1.f, 0);
    Plain<float> scores(nk * t);
    cpu().retaining_scores(x.on_cpu(), *linear(cpu(), w1, hidden, width), *linear(cpu(), w2, nk, hidden), scores.on_cpu());
    gpu().retaining_scores(x.on_gpu(), *linear(gpu(), w1, hidden, width), *linear(gpu(), w2, nk, hidden), scores.on_gpu());
    CHECK(relative_error(scores.from_gpu(), scores.from_cpu()) < 5e-3);
  }
}

TEST("gpu max_pool: exactly the CPU's") {
  Random random(2);
  for (int64_t t : {0, 1, 2, 3, 4, 5, 6, 257, 5000}) {
    auto values = random.many(3 * t);
    if (t > 4) values[2] = -kInfinity;
    Plain<float> scores(values);
    cpu().max_pool(scores.on_cpu(), 3, t);
    gpu().max_pool(scores.on_gpu(), 3, t);
    CHECK(scores.from_gpu() == scores.from_cpu());
  }
}

TEST("gpu top_indices: exactly the CPU's, with ties, NaN and infinities, short rows and long") {
  Random random(3);
  for (int64_t t : {1, 2, 9, 100, 1000, 16384, 60'000, 140'000})
    for (int levels : {1, 3, 1'000'000}) {  // few levels: many ties
      auto values = random.many(2 * t);
      for (float& x : values) x = std::round(x * static_cast<float>(levels)) / 4.f;
      if (t > 5) values[1] = -kInfinity, values[3] = kInfinity, values[4] = -0.f, values[5] = 0.f;
      if (t > 50) values[40] = NAN, values[static_cast<size_t>(t) + 7] = NAN;
      Plain<float> scores(values);
      for (int64_t first : {int64_t{0}, t / 3, t})
        for (int64_t count : {int64_t{0}, int64_t{1}, (t - first) / 8, (t - first) / 2, t - first}) {
          if (count > t - first) continue;
          Plain<int32_t> indices(2 * count);
          cpu().top_indices(scores.on_cpu(), 2, t, first, count, indices.on_cpu());
          gpu().top_indices(scores.on_gpu(), 2, t, first, count, indices.on_gpu());
          CHECK(indices.from_gpu() == indices.from_cpu());
        }
    }
  Plain<int32_t> none(1);
  CHECK_THROWS(EngineError, "invalid_argument", gpu().top_indices(nullptr, 1, 4, 3, 2, none.on_gpu()));
}

TEST("gpu gather: rows per head, with an offset, aligned or not") {
  Random random(4);
  for (int64_t d : {6, 32, 128}) {
    const Heads heads{4, 2, d};
    const int64_t gap = d % 8 == 0 ? 8 : 3;
    Both keys(random, 500, 2 * d, 1.f, gap), values(random, 500, 2 * d, 1.f, gap), out_keys(300, 2 * d, gap), out_values(300, 2 * d, gap);
    std::vector<int32_t> chosen;
    for (int h = 0; h < 2; ++h)
      for (int i = 0; i < 300; ++i) chosen.push_back(i + h * 100 + i / 3);
    Plain<int32_t> indices(chosen);
    for (int64_t i = 0; i < 600; ++i) CHECK(chosen[static_cast<size_t>(i)] < 500 - 1);
    cpu().gather({keys.on_cpu(), values.on_cpu()}, indices.on_cpu(), 300, 1, heads, {out_keys.on_cpu(), out_values.on_cpu()});
    gpu().gather({keys.on_gpu(), values.on_gpu()}, indices.on_gpu(), 300, 1, heads, {out_keys.on_gpu(), out_values.on_gpu()});
    out_keys.check_equal(0, "gathered keys");
    out_values.check_equal(0, "gathered values");
  }
  gpu().gather({}, nullptr, 0, 0, {4, 2, 6}, {});
}

TEST("gpu mean_query and query_scores") {
  Random random(5);
  for (int64_t t : {1, 7, 64}) {
    const Heads heads{6, 2, 40};
    Both q(random, t, 6 * 40), keys(random, 90, 2 * 40);
    Plain<float> mean(2 * 40), scores(2 * 100);
    cpu().mean_query(q.on_cpu(), heads, mean.on_cpu());
    gpu().mean_query(q.on_gpu(), heads, mean.on_gpu());
    CHECK(relative_error(mean.from_gpu(), mean.from_cpu()) < 1e-5);
    cpu().query_scores(mean.on_cpu(), keys.on_cpu(), heads, scores.on_cpu(), 100);
    gpu().query_scores(mean.on_gpu(), keys.on_gpu(), heads, scores.on_gpu(), 100);
    const auto want = scores.from_cpu(), got = scores.from_gpu();
    for (size_t h = 0; h < 2; ++h)
      for (size_t i = 0; i < 100; ++i) {
        if (i < 90) CHECK_NEAR(got[h * 100 + i], want[h * 100 + i], 1e-4);
        else CHECK(std::isnan(got[h * 100 + i]));
      }
  }
}
