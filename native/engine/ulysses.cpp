#include <limits>
#include <numeric>

#include "exact_attention.h"
#include "forward.h"

namespace longhaul {
namespace {

class Ulysses final : public ExactAttention {
 public:
  Ulysses(Backend& backend, Exchange& exchange, const Heads& heads, const Layout& layout, int64_t chunk)
      : backend_(backend), exchange_(exchange), heads_(heads),
        chunk_(backend.whole_attention() ? std::numeric_limits<int64_t>::max() : chunk) {
    // A rank's query heads fall into runs of equal length that share a KV head. Where a KV head
    // serves several runs, or several ranks, it is sent as often.
    const int64_t ranks = exchange.size(), query = heads.query / ranks;
    run_ = std::gcd(query, heads.query / heads.key_value);
    own_ = {query, query / run_, heads.dimension};
    columns_ = (own_.query + 2 * own_.key_value) * heads.dimension;
    for (size_t r = 0; r < layout.blocks.size(); ++r) rows_.push_back(layout.rows(r));
    const int64_t rows = rows_[static_cast<size_t>(exchange.rank())];
    const int64_t document = std::accumulate(rows_.begin(), rows_.end(), int64_t{0});
    by_rank_ = allocate_rows(backend, ranks * rows, columns_);
    all_ = allocate_rows(backend, document, columns_);
    own_out_ = allocate_rows(backend, document, own_.query * heads.dimension);
    out_ = allocate_rows(backend, rows, heads.query * heads.dimension);
  }

  Matrix attend(const Matrix& q, const KeyValues& kv) override {
    const int64_t d = heads_.dimension;
    for (int64_t r = 0; r < exchange_.size(); ++r) pack(r, q, kv);
    exchange_.all_to_all(by_rank_.view.data, bytes(own_rows(), columns_), all_.view.data, bytes(rows_, columns_));

    const Matrix queries = columns_of(backend_, all_.view, 0, own_.query * d);
    const KeyValues all{columns_of(backend_, all_.view, own_.query * d, own_.key_value * d),
                        columns_of(backend_, all_.view, (own_.query + own_.key_value) * d, own_.key_value * d)};
    for_chunks(all_.view.rows, chunk_, [&](int64_t first, int64_t count) {
      const Segment seen{rows_of(backend_, all, 0, first + count), true};
      backend_.attention(rows_of(backend_, queries, first, count), {&seen, 1}, own_,
                         rows_of(backend_, own_out_.view, first, count), nullptr);
    });

    // Rows go back to where they came from; what was sent above is no longer needed.
    const int64_t wide = own_.query * d, rows = out_.view.rows;
    exchange_.all_to_all(own_out_.view.data, bytes(rows_, wide), by_rank_.view.data, bytes(own_rows(), wide));
    for (int64_t r = 0; r < exchange_.size(); ++r) {
      const Matrix part{by_rank_.view.data, exchange_.size() * rows, wide, wide};  // [ranks, T, wide]
      copy_matrix(backend_, columns_of(backend_, out_.view, r * wide, wide), rows_of(backend_, part, r * rows, rows));
    }
    return out_.view;
  }

 private:
  /// Rank r's part of by_rank_: for each of our rows its query heads, their keys, their values.
  void pack(int64_t r, const Matrix& q, const KeyValues& kv) {
    const int64_t d = heads_.dimension, group = heads_.query / heads_.key_value;
    const Matrix part = rows_of(backend_, by_rank_.view, r * q.rows, q.rows);
    copy_matrix(backend_, columns_of(backend_, part, 0, own_.query * d),
                columns_of(backend_, q, r * own_.query * d, own_.query * d));
    for (int64_t i = 0; i < own_.key_value; ++i) {
      const int64_t head = (r * own_.query + i * run_) / group, to = (own_.query + i) * d;
      copy_matrix(backend_, columns_of(backend_, part, to, d), columns_of(backend_, kv.keys, head * d, d));
      copy_matrix(backend_, columns_of(backend_, part, to + own_.key_value * d, d),
                  columns_of(backend_, kv.values, head * d, d));
    }
  }

  std::vector<int64_t> own_rows() const { return std::vector<int64_t>(rows_.size(), out_.view.rows); }
  std::vector<size_t> bytes(const std::vector<int64_t>& rows, int64_t columns) const {
    std::vector<size_t> out;
    for (const int64_t n : rows) out.push_back(static_cast<size_t>(n * columns) * backend_.element_bytes());
    return out;
  }

  Backend& backend_;
  Exchange& exchange_;
  const Heads heads_;
  const int64_t chunk_;
  int64_t run_ = 1;            // query heads of a rank that share a KV head
  Heads own_;                  // what a rank attends with
  int64_t columns_ = 0;        // of a row on its way: query heads, keys, values
  std::vector<int64_t> rows_;  // by rank
  Rows by_rank_;               // [ranks, T, columns]
  Rows all_;                   // [document, columns]
  Rows own_out_;               // [document, NQ/ranks * D]
  Rows out_;                   // [T, NQ*D]
};

}  // namespace

std::unique_ptr<ExactAttention> make_ulysses(Backend& backend, Exchange& exchange, const Heads& heads,
                                             const Layout& layout, int64_t chunk) {
  return std::make_unique<Ulysses>(backend, exchange, heads, layout, chunk);
}

}  // namespace longhaul
