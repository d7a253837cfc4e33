// Seeded random damage for the native parsers of outside bytes. A finding is played again by its seed.
#pragma once

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

namespace fuzz {

class Random {
 public:
  explicit Random(uint64_t seed) : engine_(seed) {}
  size_t below(size_t n) { return n == 0 ? 0 : static_cast<size_t>(engine_() % n); }
  bool one_in(size_t n) { return below(n) == 0; }
  template <class T>
  const T& of(const std::vector<T>& list) { return list[below(list.size())]; }
  /// Numbers at which sizes and offsets go wrong.
  uint64_t edge() {
    const uint64_t base = uint64_t{1} << below(64);
    return std::array{base, base - 1, base + 1, ~base, ~uint64_t{0}, uint64_t{engine_()}}[below(6)];
  }
  std::string bytes(size_t most) {
    std::string out(below(most + 1), '\0');
    for (char& c : out) c = static_cast<char>(engine_());
    return out;
  }

 private:
  std::mt19937_64 engine_;
};

/// A few edits: bits, words of the format, numbers at the edges, pieces removed, repeated or cut off.
inline std::string damaged(std::string text, const std::vector<std::string>& words, Random& random) {
  for (size_t edits = 1 + random.below(4); edits > 0; --edits) {
    const size_t at = random.below(text.size() + 1);
    const size_t length = std::min(random.below(24), text.size() - at);
    switch (random.below(7)) {
      case 0:
        if (at < text.size()) text[at] = static_cast<char>(text[at] ^ (1 << random.below(8)));
        break;
      case 1: text.insert(at, random.bytes(8)); break;
      case 2: text.erase(at, length); break;
      case 3: text.insert(at, text.substr(at, length)); break;
      case 4: text.replace(at, length, random.of(words)); break;
      case 5: text.replace(at, length, std::to_string(static_cast<int64_t>(random.edge()))); break;
      case 6:
        if (random.one_in(4)) text.resize(at);
        break;
    }
  }
  return text;
}

/// Each runs until `until`, returns how many inputs it tried, and throws when one was not refused as it should be.
using Clock = std::chrono::steady_clock;
size_t safetensors(Random& random, Clock::time_point until);
size_t frames(Random& random, Clock::time_point until);

}  // namespace fuzz
