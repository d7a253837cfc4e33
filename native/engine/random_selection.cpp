#include "random_selection.h"

#include <algorithm>
#include <numeric>

namespace longhaul {

double random_score(uint64_t seed, int64_t layer, int64_t head, int64_t token) {
  constexpr uint64_t kMix = 1000003;
  uint64_t z = ((seed * kMix + static_cast<uint64_t>(layer)) * kMix + static_cast<uint64_t>(head)) * kMix +
               static_cast<uint64_t>(token) + 0x9E3779B97F4A7C15;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
  return static_cast<double>((z ^ (z >> 31)) >> 11) * 0x1p-53;
}

RandomSelection select_random(uint64_t seed, int64_t layer, int64_t key_value_heads, int64_t start, int64_t end,
                              int64_t first, int64_t count) {
  RandomSelection out;
  const auto rows = static_cast<size_t>(end - start);
  std::vector<double> scores(rows);
  for (int64_t head = 0; head < key_value_heads; ++head) {
    for (size_t i = 0; i < rows; ++i) scores[i] = random_score(seed, layer, head, start + static_cast<int64_t>(i));
    std::vector<int32_t> order(rows - static_cast<size_t>(first));
    std::iota(order.begin(), order.end(), static_cast<int32_t>(first));
    std::nth_element(order.begin(), order.begin() + count, order.end(), [&](int32_t a, int32_t b) {
      const double x = scores[static_cast<size_t>(a)], y = scores[static_cast<size_t>(b)];
      return x != y ? x > y : a < b;
    });
    std::sort(order.begin(), order.begin() + count);
    out.scores.insert(out.scores.end(), scores.begin(), scores.end());
    out.indices.insert(out.indices.end(), order.begin(), order.begin() + count);
  }
  return out;
}

}  // namespace longhaul
