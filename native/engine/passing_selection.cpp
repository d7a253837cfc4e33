#include "passing_selection.h"

#include <algorithm>

#include "random_selection.h"

namespace longhaul {
namespace {

size_t floats(int64_t count) { return static_cast<size_t>(count) * sizeof(float); }

}  // namespace

PassingSelection::PassingSelection(const Model& model, Exchange& exchange, const PrefillRequest& request,
                                   const Layout& layout, Control& control, int64_t anchor_rows, int64_t chunk)
    : model_(model), backend_(*model.backend), exchange_(exchange), request_(request), layout_(layout),
      control_(control), heads_(model.config.heads), block_(layout.blocks[static_cast<size_t>(exchange.rank())]),
      anchor_rows_(anchor_rows), rows_(anchor_rows + block_.end - block_.start),
      count_(layout.passing[static_cast<size_t>(exchange.rank())]) {
  passes_ = std::any_of(layout.passing.begin(), layout.passing.end(), [](int64_t n) { return n > 0; });
  if (passes_ && request.select == Select::Spava) {
    for (int r = exchange.size() - 1; r > 0; --r)
      if (layout.rows(static_cast<size_t>(r)) > 0) source_ = r;
    passes_ = source_ > 0;  // without a row behind the first rank nobody could receive something
  }
  // A trace also wants the scores where nothing is passed on.
  const bool sends = request.layout.method == Method::Apb && exchange.rank() + 1 < exchange.size() &&
                     rows_ > anchor_rows && (count_ > 0 || control.trace);
  by_heads_ = sends && request.select == Select::Heads && model.has_retaining_heads;
  by_query_ = sends && source_ > 0;
  by_chance_ = sends && request.select == Select::Random;

  if (by_heads_ || by_query_) scores_ = allocate_bytes(backend_, floats(heads_.key_value * rows_));
  if (by_heads_) chunk_scores_ = allocate_bytes(backend_, floats(heads_.key_value * chunk));
  if (source_ > 0) mean_ = allocate_bytes(backend_, floats(heads_.key_value * heads_.dimension));
  if (exchange.rank() == source_)
    query_ = allocate_rows(backend_, request.layout.query_tokens, heads_.query * heads_.dimension);
  indices_ = allocate_bytes(backend_, static_cast<size_t>(heads_.key_value * count_) * sizeof(int32_t));
}

void PassingSelection::keep_chunk(int64_t first, int64_t count) {
  backend_.copy_rows(static_cast<float*>(scores_->data()) + first, floats(rows_), chunk_scores_->data(), floats(count),
                     floats(count), heads_.key_value);
}

void PassingSelection::choose(int64_t layer, const Matrix& q, const KeyValues& anchor, const KeyValues& block) {
  if (source_ > 0) score_by_query(q, anchor, block);
  // Rank 0's first tokens are in the receivers' anchor already.
  const int64_t first =
      exchange_.rank() == 0 ? std::min(layout_.anchor_document, block_.end - block_.start) : 0;
  if (by_chance_) {
    const RandomSelection chosen = select_random(request_.select_seed, layer, heads_.key_value, block_.start,
                                                 block_.end, first, count_);
    if (count_ > 0) backend_.upload(indices_->data(), chosen.indices.data(), chosen.indices.size() * sizeof(int32_t));
    backend_.synchronize();  // `chosen` ends here
    indices_from_ = 0;
    return record(layer, chosen.scores, block_.end - block_.start, 0);
  }
  if (!by_heads_ && !by_query_) return;
  auto* scores = static_cast<float*>(scores_->data());
  backend_.max_pool(scores, heads_.key_value, rows_);  // over [anchor | block]: the edge sees the anchor
  if (count_ > 0)
    backend_.top_indices(scores, heads_.key_value, rows_, anchor_rows_ + first, count_,
                         static_cast<int32_t*>(indices_->data()));
  indices_from_ = anchor_rows_;
  if (!control_.trace) return;
  std::vector<float> kept(static_cast<size_t>(heads_.key_value * rows_));
  backend_.download(kept.data(), scores, kept.size() * sizeof(float));
  record(layer, kept, rows_, anchor_rows_);
}

/// Spava's scores of [anchor | block], on ranks that select. The query's rows are the anchor's, rotated
/// on to where the question will stand: behind the document. One rank's go to all, because rank 0 has
/// no anchor, and so that all ranks select by the same numbers.
void PassingSelection::score_by_query(const Matrix& q, const KeyValues& anchor, const KeyValues& block) {
  auto* mean = static_cast<float*>(mean_->data());
  if (exchange_.rank() == source_) {
    const int64_t length = query_.view.rows;
    const std::vector<int32_t> further(static_cast<size_t>(length),
                                       static_cast<int32_t>(request_.layout.document_tokens - layout_.anchor_query_at));
    copy_matrix(backend_, query_.view, rows_of(backend_, q, layout_.anchor_query_at, length));
    backend_.rope(query_.view, heads_.query, further, model_.config.rope);
    backend_.mean_query(query_.view, heads_, mean);
  }
  exchange_.broadcast(mean, floats(heads_.key_value * heads_.dimension), source_);
  if (!by_query_) return;
  auto* scores = static_cast<float*>(scores_->data());
  backend_.query_scores(mean, anchor.keys, heads_, scores, rows_);
  backend_.query_scores(mean, block.keys, heads_, scores + anchor_rows_, rows_);
}

void PassingSelection::gather(const KeyValues& block, const KeyValues& out) {
  backend_.gather(block, static_cast<const int32_t*>(indices_->data()), out.keys.rows, -indices_from_, heads_, out);
}

/// Keeps the block's part, from column `first`, of scores [NK, columns], and the selection.
void PassingSelection::record(int64_t layer, const std::vector<float>& scores, int64_t columns, int64_t first) {
  if (!control_.trace) return;
  std::vector<float>& kept = control_.trace->scores[static_cast<int>(layer)];
  kept.clear();
  for (int64_t h = 0; h < heads_.key_value; ++h)
    kept.insert(kept.end(), scores.begin() + h * columns + first, scores.begin() + (h + 1) * columns);
  std::vector<int32_t>& selected = control_.trace->selected[static_cast<int>(layer)];
  selected.resize(static_cast<size_t>(heads_.key_value * count_));
  if (!selected.empty()) backend_.download(selected.data(), indices_->data(), selected.size() * sizeof(int32_t));
  for (int32_t& index : selected) index += static_cast<int32_t>(block_.start - indices_from_);
}

}  // namespace longhaul
