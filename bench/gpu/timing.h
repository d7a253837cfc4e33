// Timing on a backend from outside: medians of runs that end with a synchronise, and JSON lines.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <vector>

#include "backends/backend.h"

namespace bench {

using namespace longhaul;

inline double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

inline double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

/// When set, each batch waits for a line on stdin, so that two programs can take turns on one card.
inline bool in_turns = false;

inline void await_turn() {
  if (!in_turns) return;
  std::puts("turn");
  std::fflush(stdout);
  if (std::getchar() == EOF) std::exit(1);
}

/// Seconds of one call of `op`: the median over `runs` of batches that take about `batch` seconds each.
inline double seconds(Backend& backend, const std::function<void()>& op, int runs = 9, double batch = 0.02) {
  const auto timed = [&](int count) {
    backend.synchronize();
    const double start = now();
    for (int i = 0; i < count; ++i) op();
    backend.synchronize();
    return (now() - start) / count;
  };
  timed(3);
  const int count = std::clamp(static_cast<int>(batch / timed(3)), 1, 1000);
  std::vector<double> all;
  for (int i = 0; i < runs; ++i) {
    await_turn();
    timed(1);
    all.push_back(timed(count));
  }
  return median(all);
}

/// One result: what, its seconds, the bytes it must move and the operations it must do.
inline void report(const std::string& what, double seconds, double bytes, double flops, const std::string& note = "") {
  std::printf("{\"what\": \"%s\", \"seconds\": %.9f, \"bytes\": %.0f, \"flops\": %.0f, \"note\": \"%s\"}\n", what.c_str(), seconds,
              bytes, flops, note.c_str());
  std::fflush(stdout);
}

}  // namespace bench
