#include "memory_agreement.h"

#include <algorithm>
#include <numeric>
#include <string>

#include "forward.h"
#include "model.h"

namespace longhaul {
namespace {

/// Adds up allocations as rows.h makes them.
class Sum {
 public:
  explicit Sum(const Model& model) : element_(model.backend->element_bytes()) {}

  void bytes(size_t bytes) { total_ += std::max<size_t>(bytes, 256); }
  void floats(int64_t count) { bytes(static_cast<size_t>(count) * sizeof(float)); }
  void rows(int64_t rows, int64_t columns) { bytes(static_cast<size_t>(rows * columns) * element_); }
  void key_values(int64_t count, int64_t columns) { rows(count, columns), rows(count, columns); }
  size_t total() const { return total_; }

 private:
  size_t element_, total_ = 0;
};

/// Of PassingSelection; no trace.
void add_selection(Sum& sum, const PrefillRequest& request, const Layout& layout, const Heads& heads, size_t rank,
                   int64_t anchor, int64_t chunk) {
  const size_t ranks = layout.blocks.size();
  const int64_t count = layout.passing[rank], rows = layout.blocks[rank].end - layout.blocks[rank].start;
  const bool passes = std::any_of(layout.passing.begin(), layout.passing.end(), [](int64_t n) { return n > 0; });
  size_t source = 0;  // 0: by another way
  if (passes && request.select == Select::Spava)
    for (size_t r = ranks - 1; r > 0; --r)
      if (layout.rows(r) > 0) source = r;
  const bool sends = request.layout.method == Method::Apb && rank + 1 < ranks && rows > 0 && count > 0;
  const bool by_heads = sends && request.select == Select::Heads, by_query = sends && source > 0;
  if (by_heads || by_query) sum.floats(heads.key_value * (anchor + rows));
  if (by_heads) sum.floats(heads.key_value * chunk);
  if (source > 0) sum.floats(heads.key_value * heads.dimension);
  if (source > 0 && rank == source) sum.rows(request.layout.query_tokens, heads.query * heads.dimension);
  sum.floats(heads.key_value * count);  // int32
}

void add_ring(Sum& sum, const Layout& layout, const Heads& heads, int64_t own, int64_t chunk) {
  const int64_t wide = heads.query * heads.dimension;
  int64_t most = 0;
  for (size_t r = 0; r < layout.blocks.size(); ++r) most = std::max(most, layout.rows(r));
  sum.rows(own, wide), sum.floats(own * heads.query);
  sum.rows(2 * chunk, wide), sum.floats(2 * chunk * heads.query);
  for (int guest = 0; guest < 2; ++guest) sum.key_values(most, heads.key_value * heads.dimension);
}

void add_ulysses(Sum& sum, const Heads& heads, int64_t ranks, int64_t own, int64_t document) {
  const int64_t query = heads.query / ranks, run = std::gcd(query, heads.query / heads.key_value);
  const int64_t columns = (query + 2 * (query / run)) * heads.dimension;
  sum.rows(ranks * own, columns);
  sum.rows(document, columns);
  sum.rows(document, query * heads.dimension);
  sum.rows(own, heads.query * heads.dimension);
}

}  // namespace

size_t prefill_bytes(const Model& model, const PrefillRequest& request, const Layout& layout, size_t rank) {
  const Config& config = model.config;
  const Heads& heads = config.heads;
  const Method method = request.layout.method;
  const auto ranks = static_cast<int64_t>(layout.blocks.size());
  const int64_t own = layout.rows(rank), anchor = rank > 0 && own > 0 ? layout.anchor_length : 0;
  const int64_t kv = heads.key_value * heads.dimension, wide = heads.query * heads.dimension;
  const int64_t chunk = chunk_rows(model, layout.anchor_length + own, request.chunk_rows);
  Sum sum(model);
  for (int64_t i = 0; i < config.layers; ++i) sum.key_values(own, kv);
  sum.key_values(anchor, kv);
  sum.rows(anchor + own, config.hidden);
  sum.rows(anchor + own, wide);
  if (!model.backend->whole_attention()) sum.rows(chunk, wide);
  sum.rows(chunk, config.hidden);
  sum.rows(chunk, std::max(2 * config.intermediate, wide + 2 * kv));
  add_selection(sum, request, layout, heads, rank, anchor, chunk);
  const int64_t document = request.layout.document_tokens;
  if (ranks > 1 && method == Method::Ring) add_ring(sum, layout, heads, own, chunk);
  if (ranks > 1 && method == Method::Ulysses) add_ulysses(sum, heads, ranks, own, document);
  if (ranks > 1 && method == Method::Full) sum.key_values(document, kv);
  const int64_t passing = std::accumulate(layout.passing.begin(), layout.passing.end(), int64_t{0});
  sum.rows(2 * passing, kv);
  return sum.total();
}

int64_t longest_document(const Model& model, const PrefillRequest& request, std::span<const uint64_t> room) {
  PrefillRequest shorter = request;
  shorter.layout.blocks.clear();
  const auto fits = [&](int64_t tokens) {
    shorter.layout.document_tokens = tokens;
    const Layout layout = plan_layout(shorter.layout);
    for (size_t r = 0; r < room.size(); ++r)
      if (prefill_bytes(model, shorter, layout, r) > room[r]) return false;
    return true;
  };
  int64_t low = 0, high = request.layout.document_tokens;
  while (low + 1 < high) {
    const int64_t middle = low + (high - low) / 2;
    (fits(middle) ? low : high) = middle;
  }
  return low;
}

std::function<Document()> agree_on_memory(const Model& model, Exchange& exchange, const PrefillRequest& request,
                                          const Layout& layout, Control& control) {
  struct Vote {
    uint64_t needed, room, refused;
  };
  std::vector<Vote> votes(static_cast<size_t>(exchange.size()));
  const auto rank = static_cast<size_t>(exchange.rank());
  Vote& own = votes[rank];
  own = {prefill_bytes(model, request, layout, rank), model.backend->room(), 0};
  std::function<Document()> prefill;
  try {
    if (own.needed <= own.room) prefill = allocate_prefill(model, exchange, request, layout, control);
  } catch (const EngineError& error) {
    if (error.code() != "out_of_memory") throw;
    own.room = own.needed - 1;  // it was there, but not in pieces that large
  }
  own.refused = prefill ? 0 : 1;
  exchange.gather_host(votes);
  const auto lacking = std::find_if(votes.begin(), votes.end(), [](const Vote& vote) { return vote.refused != 0; });
  if (lacking == votes.end()) return prefill;

  std::vector<uint64_t> room;
  for (const Vote& vote : votes) room.push_back(vote.room);
  const int64_t longest = longest_document(model, request, room);
  throw EngineError(
      kTooLongForMemory,
      "the document has " + std::to_string(request.layout.document_tokens) + " tokens, and the longest that fits the memory of these " +
          std::to_string(votes.size()) + (votes.size() == 1 ? " rank" : " ranks") + " this way has " + std::to_string(longest) + " (rank " +
          std::to_string(lacking - votes.begin()) + " needs " + std::to_string(lacking->needed) + " bytes and has " +
          std::to_string(lacking->room) + "); shorten it, use more ranks, or give them more memory");
}

}  // namespace longhaul
