#include "sampler.h"

#include <cmath>
#include <string>

#include "errors.h"

namespace longhaul {

double Sampler::uniform() {
  uint64_t z = state_ += 0x9E3779B97F4A7C15;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
  return static_cast<double>((z ^ (z >> 31)) >> 11) * 0x1p-53;
}

uint32_t Sampler::next(std::span<const float> logits) {
  size_t best = 0;
  for (size_t i = 0; i < logits.size(); ++i) {
    if (!std::isfinite(logits[i]))
      throw EngineError("not_finite", "logit " + std::to_string(i) + " is " + std::to_string(logits[i]) +
                                          "; check that the checkpoint is intact and fits the backend's precision");
    if (logits[i] > logits[best]) best = i;
  }
  if (temperature_ == 0) return static_cast<uint32_t>(best);

  double total = 0;
  weights_.resize(logits.size());
  for (size_t i = 0; i < logits.size(); ++i)
    total += weights_[i] = std::exp((static_cast<double>(logits[i]) - logits[best]) / temperature_);
  double left = uniform() * total;
  for (size_t i = 0; i < logits.size(); ++i)
    if ((left -= weights_[i]) < 0) return static_cast<uint32_t>(i);
  return static_cast<uint32_t>(best);  // rounding in the sum used up the last of `left`
}

}  // namespace longhaul
