#include "forward.h"

#include <numeric>
#include <vector>

namespace longhaul {

void for_chunks(int64_t rows, int64_t chunk, const std::function<void(int64_t, int64_t)>& body) {
  for (int64_t first = 0; first < rows; first += chunk) body(first, std::min(chunk, rows - first));
}

Forward::Forward(const Model& model, int64_t chunk) : model_(model), backend_(*model.backend) {
  const Config& config = model.config;
  const int64_t qkv = (config.heads.query + 2 * config.heads.key_value) * config.heads.dimension;
  normed_ = allocate_rows(backend_, chunk, config.hidden);
  wide_ = allocate_rows(backend_, chunk, std::max(3 * config.intermediate, qkv));
}

/// A dense [count, columns] matrix in `rows`, after `skip` elements.
Matrix Forward::scratch(const Rows& rows, int64_t count, int64_t columns, int64_t skip) const {
  return {static_cast<std::byte*>(rows.view.data) + static_cast<size_t>(skip) * backend_.element_bytes(), count,
          columns, columns};
}

void Forward::project(const Layer& layer, const Matrix& x, int64_t position, const Matrix& q, const KeyValues& kv,
                      float* scores) {
  const auto& [nq, nk, d] = model_.config.heads;
  const Matrix normed = scratch(normed_, x.rows, model_.config.hidden);
  const Matrix qkv = scratch(wide_, x.rows, (nq + 2 * nk) * d);
  backend_.rmsnorm(x, layer.input_norm, model_.config.rms_epsilon, normed);
  backend_.gemm(normed, *layer.qkv, qkv, false);
  if (scores) backend_.retaining_scores(qkv, *layer.retain_fc1, *layer.retain_fc2, scores);

  // q and k lie side by side in a row, so that one call rotates both.
  std::vector<int32_t> positions(static_cast<size_t>(x.rows));
  std::iota(positions.begin(), positions.end(), static_cast<int32_t>(position));
  backend_.rope(columns_of(backend_, qkv, 0, (nq + nk) * d), nq + nk, positions, model_.config.rope);
  copy_matrix(backend_, q, columns_of(backend_, qkv, 0, nq * d));
  copy_matrix(backend_, kv.keys, columns_of(backend_, qkv, nq * d, nk * d));
  copy_matrix(backend_, kv.values, columns_of(backend_, qkv, (nq + nk) * d, nk * d));
}

void Forward::finish(const Layer& layer, const Matrix& attention, const Matrix& x) {
  const int64_t f = model_.config.intermediate;
  const Matrix normed = scratch(normed_, x.rows, model_.config.hidden);
  const Matrix gate_up = scratch(wide_, x.rows, 2 * f);
  const Matrix product = scratch(wide_, x.rows, f, 2 * f * x.rows);
  backend_.gemm(attention, *layer.output, x, true);
  backend_.rmsnorm(x, layer.post_norm, model_.config.rms_epsilon, normed);
  backend_.gemm(normed, *layer.gate_up, gate_up, false);
  backend_.swiglu(gate_up, product);
  backend_.gemm(product, *layer.down, x, true);
}

void Forward::logits(const Matrix& x, float* out) {
  const Matrix normed = scratch(normed_, 1, model_.config.hidden);
  backend_.rmsnorm(x, model_.norm, model_.config.rms_epsilon, normed);
  backend_.logits(normed, *model_.head, out);
}

}  // namespace longhaul
