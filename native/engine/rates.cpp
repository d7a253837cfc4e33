#include "rates.h"

#include <algorithm>
#include <chrono>

#include "forward.h"

namespace longhaul {
namespace {

constexpr int64_t kRows = 1024;        // a prefill's usual chunk: more tells no more
constexpr int kRepeats = 64;           // of the keys, at most
// Long beside the clock and a waking thread, and so short that some of the times fall between two
// turns of whatever else this machine runs: the best of them is the rank's own.
constexpr double kEnough = 0.003;  // seconds
constexpr int kTimes = 20;
constexpr double kBudget = 0.15;   // seconds for these times, on a slow machine or for a large model

template <class Body>
double seconds(Backend& backend, const Body& body) {
  backend.synchronize();
  const auto start = std::chrono::steady_clock::now();
  body();
  backend.synchronize();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

/// Doubles `size` until body(size) takes long enough; then the best of several times, per unit of size.
template <class Body>
double per_unit(Backend& backend, int64_t& size, int64_t most, const Body& body) {
  double best = seconds(backend, [&] { body(size); });
  while (best < kEnough && size < most) {
    size = std::min(2 * size, most);
    best = seconds(backend, [&] { body(size); });
  }
  double spent = best;
  for (int i = 1; i < kTimes && spent < kBudget; ++i) {
    const double time = seconds(backend, [&] { body(size); });
    spent += time;
    best = std::min(best, time);
  }
  return best / static_cast<double>(size);
}

}  // namespace

Rates measure_rates(const Model& model) {
  Backend& backend = *model.backend;
  const Config& config = model.config;
  const auto& [nq, nk, d] = config.heads;
  const Layer& layer = model.layers.front();
  Forward forward(model, kRows);
  const Rows x = allocate_rows(backend, kRows, config.hidden), q = allocate_rows(backend, kRows, nq * d),
             out = allocate_rows(backend, kRows, nq * d);
  const OwnedKeyValues kv = allocate_key_values(backend, kRows, nk * d);
  const BufferPtr scores = allocate_bytes(backend, static_cast<size_t>(nk * kRows) * sizeof(float));
  const auto layers = static_cast<double>(config.layers);

  std::vector<uint32_t> tokens(static_cast<size_t>(kRows));
  for (size_t i = 0; i < tokens.size(); ++i) tokens[i] = static_cast<uint32_t>(i * 7919 % static_cast<size_t>(config.vocabulary));
  const auto layer_of = [&](int64_t rows) {
    const Matrix part = rows_of(backend, x.view, 0, rows), queries = rows_of(backend, q.view, 0, rows);
    // Fresh each time, or the residual stream would grow without bound.
    backend.embed(model.embedding, std::span(tokens).first(static_cast<size_t>(rows)), part);
    forward.project(layer, part, 0, queries, rows_of(backend, kv.view(), 0, rows),
                    model.has_retaining_heads ? static_cast<float*>(scores->data()) : nullptr);
    forward.finish(layer, queries, part);
  };
  layer_of(kRows / 16);  // first touches, and the kernels' own set-up
  Rates rates;
  int64_t rows = kRows / 16, repeats = 1;
  rates.row_seconds = layers * per_unit(backend, rows, kRows, layer_of);

  // These rows have their q, k and v now; the keys are walked as often as it takes.
  const KeyValues keys = rows_of(backend, kv.view(), 0, rows);
  const Matrix queries = rows_of(backend, q.view, 0, rows), result = rows_of(backend, out.view, 0, rows);
  const double once = per_unit(backend, repeats, kRepeats, [&](int64_t times) {
    const std::vector<Segment> segments(static_cast<size_t>(times), Segment{keys, false});
    backend.attention(queries, segments, config.heads, result, nullptr);
  });
  rates.pair_seconds = layers * once / static_cast<double>(rows * rows);
  return rates;
}

}  // namespace longhaul
