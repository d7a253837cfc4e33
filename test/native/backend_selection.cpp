// The selection ops of the CPU backend against plain loops.
#include <algorithm>
#include <limits>
#include <numeric>

#include "backend_cases.h"

using namespace cases;

namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

/// The definition: a stable sort by falling score, cut and put in order.
std::vector<int32_t> best(const float* scores, int64_t rows, int64_t first, int64_t count) {
  std::vector<int32_t> order(static_cast<size_t>(rows - first));
  std::iota(order.begin(), order.end(), static_cast<int32_t>(first));
  std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return scores[a] > scores[b]; });
  order.resize(static_cast<size_t>(count));
  std::sort(order.begin(), order.end());
  return order;
}

}  // namespace

TEST("backend retaining_scores: fc2(silu(fc1(x))) for rows over several blocks, one line per KV head") {
  each_backend([](Backend& backend) {
    Random random(1);
    for (auto [t, width, hidden, nk] : {std::tuple<int64_t, int64_t, int64_t, int64_t>{0, 8, 8, 2}, {1, 24, 20, 3}, {13, 40, 33, 1}, {230, 24, 20, 2}}) {
      const auto w1 = random.many(hidden * width), w2 = random.many(nk * hidden);
      const HostTensor t1 = tensor(w1, hidden, width), t2 = tensor(w2, nk, hidden);
      const Backend::LinearPart p1{t1}, p2{t2};
      Rows x(random, t, width);
      std::vector<float> scores(static_cast<size_t>(nk * t));
      backend.retaining_scores(x.view(), *backend.load_linear({&p1, 1}), *backend.load_linear({&p2, 1}), scores.data());
      for (int64_t i = 0; i < t; ++i) {
        std::vector<double> middle;
        for (int64_t r = 0; r < hidden; ++r) {
          double sum = 0;
          for (int64_t k = 0; k < width; ++k) sum += static_cast<double>(x.at(i, k)) * w1[static_cast<size_t>(r * width + k)];
          middle.push_back(sum / (1 + std::exp(-sum)));
        }
        for (int64_t h = 0; h < nk; ++h) {
          double want = 0;
          for (int64_t r = 0; r < hidden; ++r) want += middle[static_cast<size_t>(r)] * w2[static_cast<size_t>(h * hidden + r)];
          CHECK_NEAR(scores[static_cast<size_t>(h * t + i)], want, 1e-5);
        }
      }
    }
  });
}

TEST("backend mean_query and query_scores: one mean query per KV head, its dot product with every key of that head") {
  each_backend([](Backend& backend) {
    Random random(5);
    for (auto [length, t, nq, nk, d] : {std::tuple<int64_t, int64_t, int64_t, int64_t, int64_t>{1, 0, 1, 1, 4},
                                        {1, 1, 4, 2, 6}, {7, 33, 6, 2, 32}, {3, 301, 8, 8, 64}, {11, 130, 5, 1, 17}}) {
      const Heads heads{nq, nk, d};
      Rows q(random, length, nq * d), keys(random, t, nk * d);
      const int64_t stride = t + 5;
      std::vector<float> mean(static_cast<size_t>(nk * d) + 1, -7.f);
      std::vector<float> scores(static_cast<size_t>(nk * stride), -7.f);
      backend.mean_query(q.view(), heads, mean.data());
      CHECK(mean.back() == -7.f);
      backend.query_scores(mean.data(), keys.view(), heads, scores.data(), stride);
      for (int64_t h = 0; h < nk; ++h)
        for (int64_t i = 0; i < stride; ++i) {
          double want = 0;
          // The definition, in the other order: the mean over tokens and heads of q . k.
          for (int64_t l = 0; l < length; ++l)
            for (int64_t g = 0; g < nq; ++g)
              for (int64_t k = 0; k < d; ++k)
                if (i < t && g / (nq / nk) == h) want += static_cast<double>(q.at(l, g * d + k)) * keys.at(i, h * d + k);
          want = i < t ? want / static_cast<double>(length * (nq / nk)) : -7;
          CHECK_NEAR(scores[static_cast<size_t>(h * stride + i)], want, 1e-5);
        }
    }
    Rows none(0, 8), keys(random, 4, 4);
    std::vector<float> mean(4), scores(4);
    CHECK_THROWS(EngineError, "invalid_argument", backend.mean_query(none.view(), {2, 1, 4}, mean.data()));
    CHECK_THROWS(EngineError, "invalid_argument", backend.query_scores(mean.data(), keys.view(), {2, 1, 4}, scores.data(), 3));
  });
}

TEST("backend max_pool: two neighbours on either side, -inf outside, heads apart") {
  each_backend([](Backend& backend) {
    Random random(2);
    for (int64_t t : {0, 1, 2, 3, 4, 5, 6, 50}) {
      auto scores = random.many(3 * t);
      if (t > 4) scores[2] = -kInfinity;
      const auto before = scores;
      backend.max_pool(scores.data(), 3, t);
      for (int64_t h = 0; h < 3; ++h)
        for (int64_t i = 0; i < t; ++i) {
          float want = -kInfinity;
          for (int64_t j = i - 2; j <= i + 2; ++j)
            if (j >= 0 && j < t) want = std::max(want, before[static_cast<size_t>(h * t + j)]);
          CHECK(scores[static_cast<size_t>(h * t + i)] == want);
        }
    }
    std::vector<float> nothing(6, -kInfinity);
    backend.max_pool(nothing.data(), 2, 3);
    for (float x : nothing) CHECK(x == -kInfinity);
  });
}

TEST("backend top_indices: the best, ties to the lower index, in ascending order") {
  each_backend([](Backend& backend) {
    Random random(3);
    for (int64_t t : {1, 2, 9, 100, 1000})
      for (int levels : {1, 3, 1'000'000}) {  // few levels: many ties
        auto scores = random.many(2 * t);
        for (float& x : scores) x = std::round(x * static_cast<float>(levels)) / 4.f;
        if (t > 5) scores[1] = -kInfinity, scores[3] = kInfinity, scores[4] = -0.f, scores[5] = 0.f;
        for (int64_t first : {int64_t{0}, t / 3, t})
          for (int64_t count : {int64_t{0}, int64_t{1}, (t - first) / 2, t - first}) {
            if (count > t - first) continue;
            std::vector<int32_t> got(static_cast<size_t>(2 * count) + 1, -7);
            backend.top_indices(scores.data(), 2, t, first, count, got.data());
            for (int64_t h = 0; h < 2; ++h) {
              const auto want = best(&scores[static_cast<size_t>(h * t)], t, first, count);
              for (int64_t i = 0; i < count; ++i)
                CHECK(got[static_cast<size_t>(h * count + i)] == want[static_cast<size_t>(i)]);
            }
            CHECK(got.back() == -7);
          }
      }
    const std::vector<float> same = {1, 1, 1, 1}, broken = {NAN, 2, NAN, 1};
    std::vector<int32_t> got(2);
    backend.top_indices(same.data(), 1, 4, 1, 2, got.data());
    CHECK(got[0] == 1 && got[1] == 2);
    backend.top_indices(broken.data(), 1, 4, 0, 2, got.data());  // NaN ranks last
    CHECK(got[0] == 1 && got[1] == 3);
    CHECK_THROWS(EngineError, "invalid_argument", backend.top_indices(same.data(), 1, 4, 3, 2, got.data()));
  });
}

TEST("backend gather: rows per head, with an offset, and none out of range") {
  each_backend([](Backend& backend) {
    Random random(4);
    const Heads heads{4, 2, 6};
    Rows keys(random, 10, 12), values(random, 10, 12), out_keys(3, 12), out_values(3, 12);
    const std::vector<int32_t> indices = {0, 2, 7, 1, 2, 5};
    const KeyValues from{keys.view(), values.view()}, to{out_keys.view(), out_values.view()};
    backend.gather(from, indices.data(), 3, 2, heads, to);
    for (int64_t h = 0; h < 2; ++h)
      for (int64_t i = 0; i < 3; ++i)
        for (int64_t c = 0; c < 6; ++c) {
          const int64_t source = indices[static_cast<size_t>(h * 3 + i)] + 2;
          CHECK(out_keys.at(i, h * 6 + c) == keys.at(source, h * 6 + c));
          CHECK(out_values.at(i, h * 6 + c) == values.at(source, h * 6 + c));
        }
    CHECK_THROWS(EngineError, "invalid_argument", backend.gather(from, indices.data(), 3, 3, heads, to));
    backend.gather(from, nullptr, 0, 0, heads, {});
  });
}
