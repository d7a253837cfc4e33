// Which rows of its block a rank passes on (apb): by retaining heads, by the query, or by chance.
#pragma once

#include <vector>

#include "engine.h"
#include "exchange.h"
#include "model.h"
#include "rows.h"

namespace longhaul {

/// T is the rank's rows, anchor and then block. Every rank of every method has one; where nothing is
/// passed on it does nothing.
class PassingSelection {
 public:
  /// `chunk`: rows per call of Forward::project.
  PassingSelection(const Model& model, Exchange& exchange, const PrefillRequest& request, const Layout& layout,
                   Control& control, int64_t anchor_rows, int64_t chunk);

  /// Whether `choose` reads rows of the anchor: then they must be projected as well.
  bool reads_anchor() const { return by_heads_ || source_ > 0; }
  /// Where Forward::project puts the retaining scores of a chunk, float32 [NK, chunk]; null: not wanted.
  float* chunk_scores() const { return by_heads_ ? static_cast<float*>(chunk_scores_->data()) : nullptr; }
  /// Takes them over for rows [first, first + count) of T.
  void keep_chunk(int64_t first, int64_t count);

  /// Chooses this layer's rows. q [T, NQ*D], anchor and block [rows, NK*D] twice, all after RoPE.
  /// Every rank calls it together: the query's mean is exchanged in it. Throws CommError.
  void choose(int64_t layer, const Matrix& q, const KeyValues& anchor, const KeyValues& block);

  /// Whether ranks exchange passing blocks at all.
  bool passes() const { return passes_; }
  /// The chosen rows of `block` -> out [layout.passing, NK*D] twice.
  void gather(const KeyValues& block, const KeyValues& out);

 private:
  void score_by_query(const Matrix& q, const KeyValues& anchor, const KeyValues& block);
  void record(int64_t layer, const std::vector<float>& scores, int64_t columns, int64_t first);

  const Model& model_;
  Backend& backend_;
  Exchange& exchange_;
  const PrefillRequest& request_;
  const Layout& layout_;
  Control& control_;
  const Heads& heads_;
  const Layout::Block& block_;  // document positions
  const int64_t anchor_rows_, rows_, count_;
  bool passes_ = false;
  bool by_heads_ = false, by_query_ = false, by_chance_ = false;  // none: nobody receives anything from this rank
  int source_ = -1;            // by query: the first rank whose anchor has it; -1: another way
  BufferPtr scores_;           // [NK, T] float32, then pooled in place
  BufferPtr chunk_scores_;     // [NK, chunk] float32
  Rows query_;                 // [L, NQ*D], rotated to behind the document (source_)
  BufferPtr mean_;             // [NK*D] float32
  BufferPtr indices_;          // [NK, count] int32, counted from the block's first row + indices_from_
  int64_t indices_from_ = 0;
};

}  // namespace longhaul
