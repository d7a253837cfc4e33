// Chooses the next token from logits.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace longhaul {

/// Greedy at temperature 0. Above it, draws from softmax(logits / temperature) in double precision
/// with splitmix64 from `seed`: the same seed and logits give the same tokens on every machine.
class Sampler {
 public:
  Sampler(double temperature, uint64_t seed) : temperature_(temperature), state_(seed) {}

  /// logits [V] -> token; equal logits go to the lower id. Throws EngineError("not_finite") when a
  /// logit is NaN or infinite: the numbers upstream are broken, and any choice would be noise.
  uint32_t next(std::span<const float> logits);

 private:
  double uniform();  // in [0, 1), 53 bits
  double temperature_;
  uint64_t state_;
  std::vector<double> weights_;
};

}  // namespace longhaul
