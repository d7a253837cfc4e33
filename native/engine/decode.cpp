// Decoding over the distributed cache: every rank attends to its own keys, the partial results are
// merged by their log-sum-exp, and everything else is computed by every rank alike, but for the MLP of single
// tokens: where reading its weights takes longer than a collective, each rank computes a share.
#include <algorithm>

#include "document.h"
#include "forward.h"
#include "sampler.h"
#include "tail.h"

namespace longhaul {
namespace {

constexpr int64_t kChunkRows = 1024;  // of a long question
constexpr int64_t kWorthSharing = int64_t{100} << 20;  // bytes of a layer's weights that a rank need not read
constexpr int64_t kAlign = 8;                          // of shares: whole loads of 16 bytes

size_t aligned(size_t bytes) { return (bytes + 255) / 256 * 256; }  // vector loads on devices

class Decode {
 public:
  Decode(const Model& model, Exchange& exchange, const Document& document, const DecodeRequest& request,
         Control& control);
  DecodeResult run();

 private:
  void step(std::span<const uint32_t> tokens);
  void run_layers(std::span<const uint32_t> tokens);
  void attend(int64_t layer, int64_t rows);
  void merge(int64_t rows);
  bool worth_sharing() const;
  /// Rank r's columns of the MLP's width begin here; those of the last rank end at begin_of(ranks).
  int64_t begin_of(int64_t r) const;
  /// Everything behind the attention of one token, the MLP shared out over the ranks.
  void finish_shared(const Layer& layer);
  /// Rank 0 chooses the next token; all ranks get it, or throw "stopped".
  uint32_t choose(size_t index, int64_t rows);
  void record_lse(std::vector<std::vector<float>>& to, const void* lse, int64_t rows);

  const Model& model_;
  Backend& backend_;
  Exchange& exchange_;
  const Document& document_;
  const DecodeRequest& request_;
  Control& control_;
  const Heads& heads_;
  const bool shared_;         // the MLP of single tokens
  const bool last_;           // of the ranks: it attends to the new tokens as well
  const int64_t kv_columns_;  // NK*D
  const int64_t wide_;        // NQ*D
  int64_t done_ = 0;          // tokens after the document that earlier steps have run

  Sampler sampler_;
  Forward forward_;
  Tail tail_;                 // on every rank, so that all record their steps alike; the last one reads it
  Rows x_;                    // [L, C]
  Rows q_;                    // [L, NQ*D]
  Rows merged_;               // [L, NQ*D]
  BufferPtr parts_;           // per rank: attention [T, NQ*D], then lse [T, NQ] float32, padded
  Rows outs_;                 // [ranks * L, NQ*D]
  BufferPtr lses_;            // [ranks, L, NQ] float32
  BufferPtr merged_lse_;      // [L, NQ] float32
  Rows shares_;               // [ranks, C] of a token's MLP, where it is shared
  std::vector<float> logits_;  // [V], host, rank 0

  std::unique_ptr<Backend::Recording> recording_;  // of a step of one token
  size_t recorded_pieces_ = 0;                     // of the tail, when it was made
};

/// Bytes of one rank's part: attention of `rows` rows, padded, and their lse, padded.
struct PartSize {
  PartSize(const Backend& backend, const Heads& heads, int64_t rows)
      : out(static_cast<size_t>(rows * heads.query * heads.dimension) * backend.element_bytes()),
        lse(static_cast<size_t>(rows * heads.query) * sizeof(float)), lse_at(aligned(out)),
        total(lse_at + aligned(lse)) {}
  size_t out, lse, lse_at, total;
};

Decode::Decode(const Model& model, Exchange& exchange, const Document& document, const DecodeRequest& request,
               Control& control)
    : model_(model), backend_(*model.backend), exchange_(exchange), document_(document), request_(request),
      control_(control), heads_(model.config.heads), shared_(worth_sharing()), last_(exchange.rank() + 1 == exchange.size()),
      kv_columns_(heads_.key_value * heads_.dimension), wide_(heads_.query * heads_.dimension),
      sampler_(request.temperature, request.seed),
      forward_(model, std::min(kChunkRows, static_cast<int64_t>(request.query.size()))),
      tail_(backend_, model.config.layers, kv_columns_) {
  const auto rows = static_cast<int64_t>(request.query.size());
  const int64_t ranks = exchange.size();
  x_ = allocate_rows(backend_, rows, model.config.hidden);
  q_ = allocate_rows(backend_, rows, wide_);
  merged_ = allocate_rows(backend_, rows, wide_);
  const PartSize part(backend_, heads_, rows);
  parts_ = allocate_bytes(backend_, part.total * static_cast<size_t>(ranks));
  outs_ = allocate_rows(backend_, ranks * rows, wide_);
  lses_ = allocate_bytes(backend_, part.lse * static_cast<size_t>(ranks));
  merged_lse_ = allocate_bytes(backend_, part.lse);
  if (shared_) shares_ = allocate_rows(backend_, ranks, model.config.hidden);
  if (exchange.rank() == 0) logits_.resize(static_cast<size_t>(model.config.vocabulary));
}

DecodeResult Decode::run() {
  DecodeResult result;
  step(request_.query);
  while (true) {
    const uint32_t token =
        choose(result.tokens.size(), result.tokens.empty() ? static_cast<int64_t>(request_.query.size()) : 1);
    result.tokens.push_back(token);
    const auto count = static_cast<int64_t>(result.tokens.size());
    if (control_.progress) control_.progress({Progress::Phase::Decode, count, request_.max_new_tokens});
    result.ended = std::find(request_.eos.begin(), request_.eos.end(), token) != request_.eos.end();
    if (result.ended || count == request_.max_new_tokens) return result;
    step(std::span(&token, 1));
  }
}

/// Runs tokens [T] at the next positions; x_ then holds their last hidden states.
void Decode::step(std::span<const uint32_t> tokens) {
  tail_.extend(static_cast<int64_t>(tokens.size()));
  if (tokens.size() > 1 || control_.trace || !exchange_.recordable()) {
    run_layers(tokens);
  } else {
    const Backend::Step now{tokens[0], static_cast<int32_t>(document_.tokens + done_), static_cast<int32_t>(tail_.used())};
    if (recording_ && recorded_pieces_ == tail_.pieces()) {
      backend_.replay(*recording_, now);
    } else {
      recording_.reset();
      recording_ = backend_.record(now, [&] { run_layers(tokens); });
      recorded_pieces_ = tail_.pieces();
    }
  }
  exchange_.drain();
  done_ += static_cast<int64_t>(tokens.size());
}

void Decode::run_layers(std::span<const uint32_t> tokens) {
  const auto rows = static_cast<int64_t>(tokens.size());
  const int64_t position = document_.tokens + done_;
  backend_.embed(model_.embedding, tokens, rows_of(backend_, x_.view, 0, rows));
  for (int64_t i = 0; i < model_.config.layers; ++i) {
    const Layer& layer = model_.layers[static_cast<size_t>(i)];
    const KeyValues kv = tail_.newest(i);
    for_chunks(rows, kChunkRows, [&](int64_t first, int64_t count) {
      forward_.project(layer, rows_of(backend_, x_.view, first, count), position + first,
                       rows_of(backend_, q_.view, first, count),
                       rows_of(backend_, kv, first, count), nullptr);
    });
    attend(i, rows);
    if (shared_ && rows == 1) finish_shared(layer);
    else for_chunks(rows, kChunkRows, [&](int64_t first, int64_t count) {
      forward_.finish(layer, rows_of(backend_, merged_.view, first, count), rows_of(backend_, x_.view, first, count));
    });
    if (control_.trace && done_ == 0) {
      std::vector<float>& hidden = control_.trace->query_hidden.emplace_back(static_cast<size_t>(model_.config.hidden));
      backend_.download_float(rows_of(backend_, x_.view, rows - 1, 1), hidden.data());
    }
  }
}

/// Attention of q_ over this rank's keys, merged over all ranks into merged_.
void Decode::attend(int64_t layer, int64_t rows) {
  std::vector<Segment> segments;
  if (document_.rows > 0) segments.push_back({document_.cache[static_cast<size_t>(layer)].view(), false});
  if (last_) tail_.append_segments(layer, segments);
  const Matrix q = rows_of(backend_, q_.view, 0, rows);
  const bool traced = control_.trace && done_ == 0;
  if (exchange_.size() == 1) {
    auto* lse = static_cast<float*>(merged_lse_->data());
    backend_.attention(q, segments, heads_, rows_of(backend_, merged_.view, 0, rows), lse);
    if (traced)
      record_lse(control_.trace->query_lse, lse, rows), record_lse(control_.trace->query_merged_lse, lse, rows);
    return;
  }
  const PartSize part(backend_, heads_, rows);
  std::byte* own = static_cast<std::byte*>(parts_->data()) + part.total * static_cast<size_t>(exchange_.rank());
  backend_.attention(q, segments, heads_, {own, rows, wide_, wide_}, reinterpret_cast<float*>(own + part.lse_at));
  if (traced) record_lse(control_.trace->query_lse, own + part.lse_at, rows);
  // Ops of one row neither allocate nor try ways of computing, and so do not wait for the device.
  const std::vector<size_t> bytes(static_cast<size_t>(exchange_.size()), part.total);
  if (rows == 1 && !traced) exchange_.gather_ahead(own, parts_->data(), bytes);
  else exchange_.gather(own, parts_->data(), bytes);
  merge(rows);
  if (traced) record_lse(control_.trace->query_merged_lse, merged_lse_->data(), rows);
}

/// One collective brings attention and lse together; merging wants each of them dense.
void Decode::merge(int64_t rows) {
  const int64_t ranks = exchange_.size();
  const PartSize part(backend_, heads_, rows);
  const auto* parts = static_cast<const std::byte*>(parts_->data());
  backend_.copy_rows(outs_.view.data, part.out, parts, part.total, part.out, ranks);
  backend_.copy_rows(lses_->data(), part.lse, parts + part.lse_at, part.total, part.lse, ranks);
  backend_.merge_attention(ranks, rows_of(backend_, outs_.view, 0, ranks * rows),
                           static_cast<const float*>(lses_->data()), heads_, rows_of(backend_, merged_.view, 0, rows),
                           static_cast<float*>(merged_lse_->data()));
}

bool Decode::worth_sharing() const {
  if (exchange_.size() == 1 || request_.mlp == MlpWork::All) return false;
  const int64_t weights = 3 * model_.config.hidden * model_.config.intermediate * static_cast<int64_t>(backend_.element_bytes());
  return request_.mlp == MlpWork::Shared || (exchange_.recordable() && weights - weights / exchange_.size() >= kWorthSharing);
}

int64_t Decode::begin_of(int64_t r) const {
  const int64_t width = model_.config.intermediate, ranks = exchange_.size();
  return r == ranks ? width : width * r / ranks / kAlign * kAlign;
}

void Decode::finish_shared(const Layer& layer) {
  const Matrix x = rows_of(backend_, x_.view, 0, 1);
  forward_.output(layer, rows_of(backend_, merged_.view, 0, 1), x);
  const int64_t rank = exchange_.rank(), first = begin_of(rank);
  const Matrix own = rows_of(backend_, shares_.view, rank, 1);
  forward_.mlp_share(layer, x, first, begin_of(rank + 1) - first, own);
  const std::vector<size_t> bytes(static_cast<size_t>(exchange_.size()), static_cast<size_t>(x.columns) * backend_.element_bytes());
  exchange_.gather_ahead(own.data, shares_.view.data, bytes);
  backend_.add_parts(exchange_.size(), shares_.view, x);
}

uint32_t Decode::choose(size_t index, int64_t rows) {
  struct Choice {
    uint32_t token, stop;
  } choice{};
  if (exchange_.rank() == 0) {
    forward_.logits(rows_of(backend_, x_.view, rows - 1, 1), logits_.data());
    if (control_.trace) control_.trace->logits.insert(control_.trace->logits.end(), logits_.begin(), logits_.end());
    choice.token = request_.teacher.empty() ? sampler_.next(logits_) : request_.teacher[index];
    choice.stop = control_.stop.load() ? 1 : 0;
  }
  exchange_.broadcast_host(&choice, sizeof choice);
  if (choice.stop != 0) throw stopped_error();
  return choice.token;
}

void Decode::record_lse(std::vector<std::vector<float>>& to, const void* lse, int64_t rows) {
  std::vector<float>& kept = to.emplace_back(static_cast<size_t>(rows * heads_.query));
  backend_.download(kept.data(), lse, kept.size() * sizeof(float));
}

}  // namespace

DecodeResult decode_question(const Model& model, Exchange& exchange, const Document& document,
                             const DecodeRequest& request, Control& control) {
  return Decode(model, exchange, document, request, control).run();
}

}  // namespace longhaul
