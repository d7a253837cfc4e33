// Where a prefill's time goes, for benchmarks.
#pragma once

#include <array>
#include <chrono>

#include "../backends/backend.h"

namespace longhaul {

enum class Phase { Qkv, Scores, Selection, Communication, Attention, Output, Mlp };
constexpr std::array<const char*, 7> kPhaseNames = {"qkv",       "scores", "selection", "communication",
                                                    "attention", "output", "mlp"};

/// Seconds of all layers together. Attention of ring and ulysses contains its communication.
using PhaseTimes = std::array<double, kPhaseNames.size()>;

/// Adds its lifetime to a phase; with `times` null it does nothing. Waits for the device at its end,
/// so that asynchronous ops count where they belong.
class PhaseTimer {
 public:
  PhaseTimer(PhaseTimes* times, Backend& backend, Phase phase) : times_(times), backend_(backend), phase_(phase) {
    if (times_) start_ = Clock::now();
  }
  ~PhaseTimer() {
    if (!times_) return;
    try {
      backend_.synchronize();
    } catch (...) {
      return;  // the call's own synchronize throws it again
    }
    (*times_)[static_cast<size_t>(phase_)] += std::chrono::duration<double>(Clock::now() - start_).count();
  }
  PhaseTimer(const PhaseTimer&) = delete;
  PhaseTimer& operator=(const PhaseTimer&) = delete;

 private:
  using Clock = std::chrono::steady_clock;
  PhaseTimes* times_;
  Backend& backend_;
  Phase phase_;
  Clock::time_point start_;
};

}  // namespace longhaul
