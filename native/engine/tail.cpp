#include "tail.h"

namespace longhaul {
namespace {

constexpr int64_t kSpareRows = 256;  // few enough to waste, enough to keep pieces few

}  // namespace

void Tail::extend(int64_t rows) {
  if (pieces_.empty() || pieces_.back().used + rows > pieces_.back().capacity) {
    Piece piece;
    piece.capacity = rows + kSpareRows;
    for (int64_t i = 0; i < layers_; ++i) {
      const Matrix values = piece.layers.emplace_back(allocate_key_values(backend_, piece.capacity, columns_)).values.view;
      // Replayed steps read all rows of the piece, and 0 times what freed memory may hold is not always 0.
      backend_.clear(values.data, static_cast<size_t>(values.rows * values.columns) * backend_.element_bytes());
    }
    pieces_.push_back(std::move(piece));
  }
  pieces_.back().used += rows;
  newest_ = rows;
}

KeyValues Tail::newest(int64_t layer) const {
  const Piece& piece = pieces_.back();
  return rows_of(backend_, piece.layers[static_cast<size_t>(layer)].view(), piece.used - newest_, newest_);
}

void Tail::append_segments(int64_t layer, std::vector<Segment>& segments) const {
  for (const Piece& piece : pieces_) {
    const bool newest = &piece == &pieces_.back();
    segments.push_back({rows_of(backend_, piece.layers[static_cast<size_t>(layer)].view(), 0, piece.used), newest,
                        newest ? piece.capacity : 0});
  }
}

}  // namespace longhaul
