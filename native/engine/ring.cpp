#include <optional>

#include "exact_attention.h"
#include "forward.h"

namespace longhaul {
namespace {

/// Rows of a rank that are consecutive in the document.
struct Part {
  int64_t row, rows, position;
};

std::vector<Part> parts_of(const Layout& layout, size_t rank) {
  std::vector<Part> parts;
  int64_t row = 0;
  for (const Layout::Block& piece : {layout.blocks[rank], layout.mirrors[rank]}) {
    const int64_t rows = piece.end - piece.start;
    if (rows > 0) parts.push_back({row, rows, piece.start});
    row += rows;
  }
  return parts;
}

class Ring final : public ExactAttention {
 public:
  Ring(Backend& backend, Exchange& exchange, const Heads& heads, const Layout& layout, int64_t chunk)
      : backend_(backend), exchange_(exchange), heads_(heads), chunk_(chunk) {
    int64_t most = 0;
    for (size_t r = 0; r < layout.blocks.size(); ++r) {
      parts_.push_back(parts_of(layout, r));
      rows_.push_back(layout.rows(r));
      most = std::max(most, rows_.back());
    }
    const int64_t own = rows_[static_cast<size_t>(exchange.rank())], wide = heads.query * heads.dimension;
    out_ = allocate_rows(backend, own, wide);
    lse_ = allocate_bytes(backend, static_cast<size_t>(own * heads.query) * sizeof(float));
    two_ = allocate_rows(backend, 2 * chunk, wide);
    two_lse_ = allocate_bytes(backend, static_cast<size_t>(2 * chunk * heads.query) * sizeof(float));
    for (OwnedKeyValues& buffer : guests_)
      buffer = allocate_key_values(backend, most, heads.key_value * heads.dimension);
  }

  Matrix attend(const Matrix& q, const KeyValues& kv) override {
    const int ranks = exchange_.size();
    KeyValues present = kv;
    for (int step = 0; step < ranks; ++step) {
      const auto host = [&](int s) { return static_cast<size_t>((exchange_.rank() + ranks - s) % ranks); };
      std::optional<Exchange::Pending> rotation;
      KeyValues next;
      if (step + 1 < ranks) {
        next = rows_of(backend_, guests_[step % 2].view(), 0, rows_[host(step + 1)]);
        rotation.emplace(exchange_.rotate(present, next));
      }
      for (const Part& part : parts_[host(0)]) attend_part(q, part, present, parts_[host(step)], step == 0);
      if (rotation) rotation->finish();
      present = next;
    }
    return out_.view;
  }

 private:
  /// Attention of a part's rows to what they may see of `present`, the rows of a rank whose parts are `guests`.
  void attend_part(const Matrix& q, const Part& part, const KeyValues& present, const std::vector<Part>& guests,
                   bool own) {
    std::vector<Segment> before;
    for (const Part& guest : guests)
      if (guest.position < part.position) before.push_back({rows_of(backend_, present, guest.row, guest.rows), false});
    if (!own && before.empty()) return;
    for_chunks(part.rows, chunk_, [&](int64_t first, int64_t count) {
      const int64_t row = part.row + first;
      const Matrix queries = rows_of(backend_, q, row, count), out = rows_of(backend_, out_.view, row, count);
      float* lse = static_cast<float*>(lse_->data()) + row * heads_.query;
      if (!own) return merge_in(queries, before, out, lse);
      std::vector<Segment> segments = before;
      segments.push_back({rows_of(backend_, present, part.row, first + count), true});
      backend_.attention(queries, segments, heads_, out, lse);
    });
  }

  /// out [T, NQ*D] and lse [T, NQ] also take in the attention to `segments`.
  void merge_in(const Matrix& queries, const std::vector<Segment>& segments, const Matrix& out, float* lse) {
    const int64_t count = queries.rows;
    const size_t lse_bytes = static_cast<size_t>(count * heads_.query) * sizeof(float);
    auto* two_lse = static_cast<float*>(two_lse_->data());
    copy_matrix(backend_, rows_of(backend_, two_.view, 0, count), out);
    backend_.copy(two_lse, lse, lse_bytes);
    backend_.attention(queries, segments, heads_, rows_of(backend_, two_.view, count, count),
                       two_lse + count * heads_.query);
    backend_.merge_attention(2, rows_of(backend_, two_.view, 0, 2 * count), two_lse, heads_, out, lse);
  }

  Backend& backend_;
  Exchange& exchange_;
  const Heads heads_;
  const int64_t chunk_;
  std::vector<std::vector<Part>> parts_;  // by rank
  std::vector<int64_t> rows_;             // by rank
  Rows out_;                              // [T, NQ*D], what has been seen so far
  BufferPtr lse_;                         // [T, NQ] float32
  Rows two_;                              // [2, chunk, NQ*D]: so far, and of the present guest
  BufferPtr two_lse_;                     // [2, chunk, NQ] float32
  OwnedKeyValues guests_[2];              // [most rows of a rank, NK*D] twice: one is read, one arrives
};

}  // namespace

std::unique_ptr<ExactAttention> make_ring(Backend& backend, Exchange& exchange, const Heads& heads,
                                          const Layout& layout, int64_t chunk) {
  return std::make_unique<Ring>(backend, exchange, heads, layout, chunk);
}

}  // namespace longhaul
