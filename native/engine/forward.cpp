#include "forward.h"

#include <algorithm>

namespace longhaul {

void for_chunks(int64_t rows, int64_t chunk, const std::function<void(int64_t, int64_t)>& body) {
  for (int64_t first = 0; first < rows; first += chunk) body(first, std::min(chunk, rows - first));
}

int64_t chunk_rows(const Model& model, int64_t rows, int64_t wanted) {
  constexpr int64_t kOnHost = 1024, kLeast = 256, kMost = 8192;
  const Config& config = model.config;
  int64_t chunk = wanted > 0 ? wanted : kOnHost;
  if (wanted == 0 && model.backend->whole_attention())
    chunk = std::clamp(rows * config.hidden / (config.hidden + 2 * config.intermediate) / kLeast * kLeast, kLeast, kMost);
  return std::clamp<int64_t>(rows, 1, chunk);
}

Forward::Forward(const Model& model, int64_t chunk, PhaseTimes* phases)
    : model_(model), backend_(*model.backend), phases_(phases) {
  const Config& config = model.config;
  const int64_t qkv = (config.heads.query + 2 * config.heads.key_value) * config.heads.dimension;
  normed_ = allocate_rows(backend_, chunk, config.hidden);
  wide_ = allocate_rows(backend_, chunk, std::max(2 * config.intermediate, qkv));
}

/// A dense [count, columns] matrix in `rows`.
Matrix Forward::scratch(const Rows& rows, int64_t count, int64_t columns) const {
  return {rows.view.data, count, columns, columns};
}

void Forward::project(const Layer& layer, const Matrix& x, int64_t position, const Matrix& q, const KeyValues& kv,
                      float* scores) {
  const auto& [nq, nk, d] = model_.config.heads;
  const Matrix normed = scratch(normed_, x.rows, model_.config.hidden);
  const Matrix qkv = scratch(wide_, x.rows, (nq + 2 * nk) * d);
  {
    const PhaseTimer timer(phases_, backend_, Phase::Qkv);
    backend_.rmsnorm(x, layer.input_norm, model_.config.rms_epsilon, normed);
    backend_.gemm(normed, *layer.qkv, qkv, false);
  }
  if (scores) {
    const PhaseTimer timer(phases_, backend_, Phase::Scores);
    backend_.retaining_scores(qkv, *layer.retain_fc1, *layer.retain_fc2, scores);
  }
  const PhaseTimer timer(phases_, backend_, Phase::Qkv);

  backend_.split_heads(qkv, model_.config.heads, static_cast<int32_t>(position), model_.config.rope, q, kv);
}

void Forward::output(const Layer& layer, const Matrix& attention, const Matrix& x) {
  const PhaseTimer timer(phases_, backend_, Phase::Output);
  backend_.gemm(attention, *layer.output, x, true);
}

void Forward::finish(const Layer& layer, const Matrix& attention, const Matrix& x) {
  const int64_t f = model_.config.intermediate;
  const Matrix normed = scratch(normed_, x.rows, model_.config.hidden);
  const Matrix gate_up = scratch(wide_, x.rows, 2 * f);
  const Matrix product = columns_of(backend_, gate_up, 0, f);  // in the gates' place
  output(layer, attention, x);
  const PhaseTimer timer(phases_, backend_, Phase::Mlp);
  backend_.rmsnorm(x, layer.post_norm, model_.config.rms_epsilon, normed);
  backend_.gemm(normed, *layer.gate_up, gate_up, false);
  backend_.swiglu(gate_up, product);
  backend_.gemm(product, *layer.down, x, true);
}

void Forward::mlp_share(const Layer& layer, const Matrix& x, int64_t first, int64_t count, const Matrix& share) {
  const int64_t c = model_.config.hidden, f = model_.config.intermediate;
  if (count == 0) {  // more ranks than the width has pieces for
    for (int64_t i = 0; i < share.rows; ++i) backend_.clear(element(backend_, share, i, 0), static_cast<size_t>(c) * backend_.element_bytes());
    return;
  }
  const Matrix normed = scratch(normed_, x.rows, c);
  const Matrix gate_up = scratch(wide_, x.rows, 2 * count);
  const Matrix product = columns_of(backend_, gate_up, 0, count);
  backend_.rmsnorm(x, layer.post_norm, model_.config.rms_epsilon, normed);
  backend_.gemm_slice(normed, *layer.gate_up, {first, count, 0, c}, product);
  backend_.gemm_slice(normed, *layer.gate_up, {f + first, count, 0, c}, columns_of(backend_, gate_up, count, count));
  backend_.swiglu(gate_up, product);
  backend_.gemm_slice(product, *layer.down, {0, c, first, count}, share);
}

void Forward::logits(const Matrix& x, float* out) {
  const Matrix normed = scratch(normed_, 1, model_.config.hidden);
  backend_.rmsnorm(x, model_.norm, model_.config.rms_epsilon, normed);
  backend_.logits(normed, *model_.head, out);
}

}  // namespace longhaul
