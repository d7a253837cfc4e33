#include <limits>

#include "check.h"
#include "engine/errors.h"
#include "engine/sampler.h"

using namespace longhaul;

TEST("sampler is greedy at temperature 0, ties to the lower id") {
  Sampler sampler(0, 7);
  CHECK(sampler.next(std::vector<float>{1, 3, 3, 2}) == 1);
  CHECK(sampler.next(std::vector<float>{-5}) == 0);
}

TEST("sampler draws the same tokens from the same seed, everywhere") {
  const std::vector<float> logits{0, 0, 0, 0, 0, 0, 0, 0};
  std::vector<uint32_t> drawn;
  Sampler a(1, 42), b(1, 42), c(1, 43);
  bool differs = false;
  for (int i = 0; i < 64; ++i) {
    drawn.push_back(a.next(logits));
    CHECK(drawn.back() == b.next(logits));
    differs |= drawn.back() != c.next(logits);
  }
  CHECK(differs);
  // splitmix64 from 42 is 0xbdd732262feb6e95, 0x28efe333b266f103, ...: eighths 5 and 1.
  CHECK(drawn[0] == 5 && drawn[1] == 1);
}

TEST("sampler follows softmax of logits over temperature") {
  const std::vector<float> logits{0, 1, -2, 3};
  for (const double temperature : {0.5, 1.0, 2.0}) {
    Sampler sampler(temperature, 1);
    std::vector<double> share(4), want(4);
    double total = 0;
    for (size_t i = 0; i < 4; ++i) total += want[i] = std::exp(logits[i] / temperature);
    for (int i = 0; i < 40'000; ++i) share[sampler.next(logits)] += 1.0 / 40'000;
    for (size_t i = 0; i < 4; ++i) CHECK_NEAR(share[i], want[i] / total, 0.01);
  }
  Sampler cold(1e-300, 1);
  CHECK(cold.next(logits) == 3);
}

TEST("sampler refuses logits that are not finite") {
  Sampler sampler(0, 0);
  const float bad[] = {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
                       -std::numeric_limits<float>::infinity()};
  for (const float value : bad) CHECK_THROWS(EngineError, "not_finite", sampler.next(std::vector<float>{0, value}));
}
