// Prefill of one rank: APB (2502.12085), Star Attention (2411.17116) or exact attention.
#include <algorithm>
#include <cmath>

#include "document.h"
#include "exact_attention.h"
#include "forward.h"
#include "passing_selection.h"

namespace longhaul {
namespace {

/// Consecutive rows of x that share positions and visibility: the anchor, the block, or its mirror.
struct Piece {
  int64_t row = 0;  // of x
  int64_t rows = 0;
  int64_t position = 0;  // of the first row
  KeyValues kv;          // [rows, NK*D] twice, of the current layer
};

class Prefill {
 public:
  Prefill(const Model& model, Exchange& exchange, const PrefillRequest& request, const Layout& layout,
          Control& control);
  Document run();

 private:
  void embed();
  void project(const Layer& layer, const Piece& piece, bool score);
  Matrix exact(const KeyValues& own);
  void attention(const Matrix& q, std::span<const Segment> context, const Matrix& out);
  std::optional<Exchange::Pending> share(int64_t layer);
  std::optional<Exchange::Pending> share_passing();
  void attend(const Layer& layer, const Piece& piece, std::vector<Segment> context);
  void record_norms();
  size_t row_bytes() const { return static_cast<size_t>(kv_columns_) * backend_.element_bytes(); }

  const Model& model_;
  Backend& backend_;
  Exchange& exchange_;
  const PrefillRequest& request_;
  const Layout& layout_;
  Control& control_;
  const Heads& heads_;
  const size_t rank_;
  const int64_t kv_columns_;  // NK*D
  const int64_t chunk_;
  Document document_;
  Piece anchor_, block_, mirror_;
  std::unique_ptr<ExactAttention> exact_;  // ring and ulysses, of several ranks
  Forward forward_;
  std::optional<PassingSelection> selection_;
  Rows x_;                          // [T, C] residual stream; T = anchor rows + the rank's rows
  Rows q_;                          // [T, NQ*D]
  Rows attention_;                  // [chunk, NQ*D]
  OwnedKeyValues anchor_kv_;        // [anchor rows, NK*D] twice
  BufferPtr received_;              // apb: per rank [passing, NK*D] keys, then values
  OwnedKeyValues all_;              // full: [document, NK*D] twice
  std::vector<KeyValues> earlier_;  // what the ranks before this one passed on, in rank order
};

Prefill::Prefill(const Model& model, Exchange& exchange, const PrefillRequest& request, const Layout& layout,
                 Control& control)
    : model_(model), backend_(*model.backend), exchange_(exchange), request_(request), layout_(layout),
      control_(control), heads_(model.config.heads), rank_(static_cast<size_t>(exchange.rank())),
      kv_columns_(heads_.key_value * heads_.dimension),
      chunk_(chunk_rows(model, layout.anchor_length + static_cast<int64_t>(request.block.size()), request.chunk_rows)),
      forward_(model, chunk_, control.phases) {
  const Layout::Block &block = layout.blocks[rank_], &mirror = layout.mirrors[rank_];
  const Method method = request.layout.method;
  document_.tokens = request.layout.document_tokens;
  document_.rows = layout.rows(rank_);
  for (int64_t i = 0; i < model.config.layers; ++i)
    document_.cache.push_back(allocate_key_values(backend_, document_.rows, kv_columns_));

  // Without a block there is nothing that an anchor could serve.
  if (rank_ > 0 && document_.rows > 0) anchor_.rows = layout.anchor_length;
  block_ = {anchor_.rows, block.end - block.start, block.start, {}};
  mirror_ = {anchor_.rows + block_.rows, mirror.end - mirror.start, mirror.start, {}};
  anchor_kv_ = allocate_key_values(backend_, anchor_.rows, kv_columns_);
  anchor_.kv = anchor_kv_.view();

  const int64_t rows = anchor_.rows + document_.rows, wide = heads_.query * heads_.dimension;
  x_ = allocate_rows(backend_, rows, model.config.hidden);
  q_ = allocate_rows(backend_, rows, wide);
  if (!backend_.whole_attention()) attention_ = allocate_rows(backend_, chunk_, wide);

  selection_.emplace(model, exchange, request, layout, control, anchor_.rows, chunk_);
  if (exchange.size() > 1 && method == Method::Ring) exact_ = make_ring(backend_, exchange, heads_, layout, chunk_);
  if (exchange.size() > 1 && method == Method::Ulysses) exact_ = make_ulysses(backend_, exchange, heads_, layout, chunk_);
  if (exchange.size() > 1 && method == Method::Full)
    all_ = allocate_key_values(backend_, document_.tokens, kv_columns_);
  int64_t passing = 0;
  for (const int64_t n : layout.passing) passing += n;
  received_ = allocate_bytes(backend_, 2 * static_cast<size_t>(passing) * row_bytes());
}

Document Prefill::run() {
  const int64_t layers = model_.config.layers;
  embed();
  for (int64_t i = 0; i < layers; ++i) {
    exchange_.throw_if_stopped(control_.stop.load());
    const Layer& layer = model_.layers[static_cast<size_t>(i)];
    // Behind the last layer's keys and values nothing feeds a cache; a trace still wants its selection.
    const bool last = i + 1 == layers;
    const KeyValues own = document_.cache[static_cast<size_t>(i)].view();
    block_.kv = rows_of(backend_, own, 0, block_.rows);
    mirror_.kv = rows_of(backend_, own, block_.rows, mirror_.rows);
    const bool selects = !last || control_.trace;
    if (!last || (selects && selection_->reads_anchor())) project(layer, anchor_, selects);
    project(layer, block_, selects);
    project(layer, mirror_, false);
    if (selects) {
      const PhaseTimer timer(control_.phases, backend_, Phase::Selection);
      selection_->choose(i, q_.view, anchor_.kv, block_.kv);
    }
    if (!last && exact_) {
      const Matrix out = exact(own);
      for_chunks(document_.rows, chunk_, [&](int64_t first, int64_t count) {
        forward_.finish(layer, rows_of(backend_, out, first, count), rows_of(backend_, x_.view, first, count));
      });
    } else if (!last) {
      std::optional<Exchange::Pending> sharing = share(i);
      const auto arrive = [&] {
        const PhaseTimer timer(control_.phases, backend_, Phase::Communication);
        if (sharing) sharing->finish();
      };
      attend(layer, anchor_, {});
      if (!earlier_.empty()) arrive();
      std::vector<Segment> context;
      if (anchor_.rows > 0) context.push_back({anchor_.kv, false});
      for (const KeyValues& kv : earlier_) context.push_back({kv, false});
      attend(layer, block_, std::move(context));
      if (earlier_.empty()) arrive();  // nothing here waits for it
    }
    if (control_.progress) control_.progress({Progress::Phase::Prefill, i + 1, layers});
  }
  backend_.synchronize();  // failures of the device belong to this call
  if (control_.trace) record_norms();
  return std::move(document_);
}

void Prefill::embed() {
  std::vector<uint32_t> tokens;
  if (anchor_.rows > 0) {
    tokens.assign(request_.head.begin(), request_.head.end());
    if (request_.layout.method == Method::Apb)
      tokens.insert(tokens.begin() + layout_.anchor_query_at, request_.query.begin(), request_.query.end());
  }
  tokens.insert(tokens.end(), request_.block.begin(), request_.block.end());
  for_chunks(x_.view.rows, chunk_, [&](int64_t first, int64_t count) {
    backend_.embed(model_.embedding, std::span(tokens).subspan(static_cast<size_t>(first), static_cast<size_t>(count)),
                   rows_of(backend_, x_.view, first, count));
  });
}

/// Fills the piece's keys and values, its rows of q and, where they are wanted, of the scores.
void Prefill::project(const Layer& layer, const Piece& piece, bool score) {
  float* chunk_scores = score ? selection_->chunk_scores() : nullptr;
  for_chunks(piece.rows, chunk_, [&](int64_t first, int64_t count) {
    const int64_t row = piece.row + first;
    forward_.project(layer, rows_of(backend_, x_.view, row, count), piece.position + first,
                     rows_of(backend_, q_.view, row, count), rows_of(backend_, piece.kv, first, count), chunk_scores);
    if (chunk_scores) selection_->keep_chunk(row, count);
  });
}

/// Attention of ring or ulysses, communication included.
Matrix Prefill::exact(const KeyValues& own) {
  const PhaseTimer timer(control_.phases, backend_, Phase::Attention);
  return exact_->attend(q_.view, own);
}

void Prefill::attention(const Matrix& q, std::span<const Segment> context, const Matrix& out) {
  const PhaseTimer timer(control_.phases, backend_, Phase::Attention);
  backend_.attention(q, context, heads_, out, nullptr);
}

/// Sets earlier_: what ranks before this one let it see of their blocks, once what is returned has arrived.
std::optional<Exchange::Pending> Prefill::share(int64_t layer) {
  const PhaseTimer timer(control_.phases, backend_, Phase::Communication);
  earlier_.clear();
  if (exchange_.size() == 1 || request_.layout.method == Method::Star) return std::nullopt;
  if (request_.layout.method == Method::Apb) return share_passing();
  std::vector<size_t> bytes;
  for (const Layout::Block& block : layout_.blocks)
    bytes.push_back(static_cast<size_t>(block.end - block.start) * row_bytes());
  const OwnedKeyValues& own = document_.cache[static_cast<size_t>(layer)];
  exchange_.gather(own.keys.view.data, all_.keys.view.data, bytes);
  exchange_.gather(own.values.view.data, all_.values.view.data, bytes);
  if (block_.position > 0) earlier_.push_back(rows_of(backend_, all_.view(), 0, block_.position));
  return std::nullopt;
}

std::optional<Exchange::Pending> Prefill::share_passing() {
  if (!selection_->passes()) return std::nullopt;
  auto* at = static_cast<std::byte*>(received_->data());
  std::vector<size_t> bytes;
  KeyValues own;
  for (size_t r = 0; r < layout_.passing.size(); ++r) {
    const int64_t count = layout_.passing[r];
    const size_t half = static_cast<size_t>(count) * row_bytes();
    const KeyValues kv{{at, count, kv_columns_, kv_columns_}, {at + half, count, kv_columns_, kv_columns_}};
    if (r < rank_ && count > 0) earlier_.push_back(kv);
    if (r == rank_) own = kv;
    bytes.push_back(2 * half);
    at += 2 * half;
  }
  if (own.keys.rows > 0) selection_->gather(block_.kv, own);
  if (PassedBytes* passed = control_.passed) {
    for (size_t r = 0; r < bytes.size(); ++r) {
      if (r == rank_) passed->sent += (bytes.size() - 1) * bytes[r];
      else passed->received += bytes[r];
    }
  }
  return exchange_.start_gather(own.keys.data, received_->data(), std::move(bytes));
}

/// Attention and the rest of the layer for a piece's rows: each sees all of `context`, and the
/// piece itself up to its own row.
void Prefill::attend(const Layer& layer, const Piece& piece, std::vector<Segment> context) {
  context.push_back({piece.kv, true});
  const bool whole = backend_.whole_attention();
  const Matrix q = rows_of(backend_, q_.view, piece.row, piece.rows);
  if (whole && piece.rows > 0) attention(q, context, q);
  for_chunks(piece.rows, chunk_, [&](int64_t first, int64_t count) {
    const int64_t row = piece.row + first;
    if (whole) return forward_.finish(layer, rows_of(backend_, q, first, count), rows_of(backend_, x_.view, row, count));
    context.back() = {rows_of(backend_, piece.kv, 0, first + count), true};
    const Matrix out = rows_of(backend_, attention_.view, 0, count);
    attention(rows_of(backend_, q, first, count), context, out);
    forward_.finish(layer, out, rows_of(backend_, x_.view, row, count));
  });
}

void Prefill::record_norms() {
  const auto norm = [&](const Matrix& m) {
    std::vector<float> values(static_cast<size_t>(m.rows * m.columns));
    if (m.rows > 0) backend_.download_float(m, values.data());
    double sum = 0;
    for (const float v : values) sum += static_cast<double>(v) * v;
    return std::sqrt(sum);
  };
  for (const OwnedKeyValues& kv : document_.cache)
    control_.trace->cache_norms.emplace_back(norm(kv.keys.view), norm(kv.values.view));
}

}  // namespace

std::function<Document()> allocate_prefill(const Model& model, Exchange& exchange, const PrefillRequest& request,
                                           const Layout& layout, Control& control) {
  return [prefill = std::make_shared<Prefill>(model, exchange, request, layout, control)] { return prefill->run(); };
}

}  // namespace longhaul
