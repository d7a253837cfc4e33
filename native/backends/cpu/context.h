// What every op of the CPU backend works with: kernels, threads and their working memory.
#pragma once

#include <vector>

#include "../../engine/errors.h"
#include "kernels.h"
#include "memory.h"
#include "thread_pool.h"

namespace longhaul::cpu {

struct Context {
  Context(const Kernels& kernels, int threads)
      : kernels(kernels), pool(threads), scratch(static_cast<size_t>(threads)) {}

  const Kernels& kernels;
  ThreadPool pool;
  std::vector<Scratch> scratch;  // one per worker
  Scratch shared;                // written by one op's workers for one another
};

/// Work below this many floating-point operations is done before another thread has joined in.
constexpr double kWorthWaking = 2e5;

inline float* row(const Matrix& m, int64_t i) { return static_cast<float*>(m.data) + i * m.stride; }

inline int64_t round_up(int64_t n, int64_t step) { return (n + step - 1) / step * step; }

/// The engine's shapes are its own: a mismatch is a bug of the caller, which must not corrupt memory.
inline void require(bool fits, const char* what) {
  if (!fits) throw EngineError("invalid_argument", std::string("cpu backend: ") + what);
}

}  // namespace longhaul::cpu
