// Keys and values of the tokens after the document: a question and its answer.
#pragma once

#include <cstdint>
#include <vector>

#include "rows.h"

namespace longhaul {

/// Grows in pieces, so that a long answer that never comes costs nothing and nothing is copied.
/// Columns are NK*D. It lives as long as one question: the document's cache never changes.
class Tail {
 public:
  Tail(Backend& backend, int64_t layers, int64_t columns) : backend_(backend), layers_(layers), columns_(columns) {}

  /// Room for `rows` more tokens, the newest, in one piece. Throws EngineError("out_of_memory").
  void extend(int64_t rows);

  /// The newest rows of a layer, [rows, NK*D] twice.
  KeyValues newest(int64_t layer) const;

  /// Rows of the newest piece, the newest included, and how many pieces there are: what a recorded step depends on.
  int64_t used() const { return pieces_.back().used; }
  size_t pieces() const { return pieces_.size(); }

  /// What the newest rows may see of the tail: all that was before them, and causally themselves.
  void append_segments(int64_t layer, std::vector<Segment>& segments) const;

 private:
  struct Piece {
    std::vector<OwnedKeyValues> layers;  // [capacity, NK*D] twice
    int64_t capacity = 0, used = 0;
  };
  Backend& backend_;
  int64_t layers_, columns_;
  int64_t newest_ = 0;  // rows of the last extend
  std::vector<Piece> pieces_;
};

}  // namespace longhaul
