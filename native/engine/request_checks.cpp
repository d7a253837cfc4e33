#include "request_checks.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

namespace longhaul {
namespace {

EngineError invalid(const std::string& what) { return {"invalid_argument", what}; }

std::optional<EngineError> refuse_tokens(const Model& model, const std::string& field,
                                         std::span<const uint32_t> tokens) {
  const auto bad = std::find_if(tokens.begin(), tokens.end(), [&](uint32_t t) { return t >= model.config.vocabulary; });
  if (bad == tokens.end()) return std::nullopt;
  return invalid(field + "[" + std::to_string(bad - tokens.begin()) + "] is token " + std::to_string(*bad) +
                 ", but the model has " + std::to_string(model.config.vocabulary) +
                 " tokens; use the model's own tokenizer");
}

void check_tokens(const Model& model, const std::string& field, std::span<const uint32_t> tokens) {
  if (const auto error = refuse_tokens(model, field, tokens)) throw *error;
}

/// `count` positions from 0 must be within the model's, and within RoPE's int32.
void check_positions(const Model& model, int64_t count, const std::string& what) {
  int64_t most = std::numeric_limits<int32_t>::max();
  if (model.config.max_positions > 0) most = std::min(most, model.config.max_positions);
  if (count > most)
    throw EngineError("too_long", what + " needs " + std::to_string(count) + " positions, the model has " +
                                      std::to_string(most) +
                                      "; shorten the document or use a model with a longer context");
}

std::optional<EngineError> refuse_length(const std::string& field, size_t found, int64_t want) {
  if (static_cast<int64_t>(found) == want) return std::nullopt;
  return invalid(field + " has " + std::to_string(found) + " tokens, the layout needs " + std::to_string(want));
}

/// FNV-1a over 64-bit words.
class Hash {
 public:
  Hash& add(int64_t word) {
    for (int shift = 0; shift < 64; shift += 8)
      value_ = (value_ ^ (static_cast<uint64_t>(word) >> shift & 0xFF)) * 0x100000001B3;
    return *this;
  }
  Hash& add(std::span<const uint32_t> tokens) {
    add(static_cast<int64_t>(tokens.size()));
    for (const uint32_t token : tokens) add(static_cast<int64_t>(token));
    return *this;
  }
  Hash& add(const Model& model) {
    const Config& c = model.config;
    return add(c.hidden)
        .add(c.intermediate)
        .add(c.layers)
        .add(c.heads.query)
        .add(c.heads.key_value)
        .add(c.heads.dimension)
        .add(c.vocabulary)
        .add(static_cast<int64_t>(model.backend->element_bytes()));
  }
  uint64_t value() const { return value_; }

 private:
  uint64_t value_ = 0xCBF29CE484222325;
};

/// The anchor that a query may stand in.
bool has_anchor(const PrefillRequest& request, const Layout& layout) {
  return request.layout.method == Method::Apb && layout.anchor_length > 0;
}

}  // namespace

void check_prefill(const Model& model, int ranks, const PrefillRequest& request, const Layout& layout) {
  if (request.layout.ranks != ranks)
    throw invalid("layout.ranks is " + std::to_string(request.layout.ranks) + ", but the communicator joins " +
                  std::to_string(ranks));
  if (request.chunk_rows < 0)
    throw invalid("chunk_rows is " + std::to_string(request.chunk_rows) + "; it must be at least 1, or 0 for the engine's choice");
  if (request.layout.method == Method::Ulysses && model.config.heads.query % ranks != 0)
    throw EngineError("unsupported", "method ulysses gives every rank as many query heads, and " +
                                         std::to_string(ranks) + " ranks do not divide the model's " +
                                         std::to_string(model.config.heads.query) +
                                         "; use a number of ranks that does, or method ring");
  check_positions(model, std::max(request.layout.document_tokens, layout.anchor_length), "the document");
  if (has_anchor(request, layout)) {
    if (const auto error = refuse_length("query", request.query.size(), request.layout.query_tokens)) throw *error;
    check_tokens(model, "query", request.query);
  }
  const bool passes = std::any_of(layout.passing.begin(), layout.passing.end(), [](int64_t n) { return n > 0; });
  if (passes && request.select == Select::Heads && !model.has_retaining_heads)
    throw invalid("method apb with passing_length " + std::to_string(request.layout.passing_length) +
                  " selects with retaining heads, and the model has none; add retaining_heads.safetensors, or select "
                  "spava");
  if (passes && request.select == Select::Spava && !has_anchor(request, layout))
    throw invalid("select spava takes the query from the anchor, and anchor_length is " +
                  std::to_string(layout.anchor_length) + "; give an anchor, or select heads");
  if (passes && request.select == Select::Spava && request.layout.query_tokens == 0)
    throw invalid("select spava takes the query from the anchor, and query_tokens is 0; put the query into it, or select heads");
}

std::optional<EngineError> refuse_prefill(const Model& model, int rank, const PrefillRequest& request,
                                          const Layout& layout) {
  if (auto error = refuse_length("block", request.block.size(), layout.rows(static_cast<size_t>(rank)))) return error;
  if (auto error = refuse_tokens(model, "block", request.block)) return error;
  if (rank == 0) return std::nullopt;
  if (auto error = refuse_length("head", request.head.size(), layout.anchor_document)) return error;
  return refuse_tokens(model, "head", request.head);
}

void check_decode(const Model& model, int64_t document_tokens, const DecodeRequest& request) {
  if (request.query.empty()) throw invalid("query is empty; the first new token needs at least one token before it");
  check_tokens(model, "query", request.query);
  const int64_t most = request.max_new_tokens;
  if (most < 1) throw invalid("max_new_tokens is " + std::to_string(most) + "; it must be at least 1");
  if (!std::isfinite(request.temperature) || request.temperature < 0)
    throw invalid("temperature is " + std::to_string(request.temperature) + "; it must be 0 (greedy) or above");
  if (most > std::numeric_limits<int32_t>::max())
    throw EngineError("too_long",
                      "max_new_tokens is " + std::to_string(most) + ", beyond any model's context; lower it");
  // The last new token is never fed back, so that it needs no position.
  check_positions(model, document_tokens + static_cast<int64_t>(request.query.size()) + most - 1,
                  "the document with question and answer");
  if (request.teacher.empty()) return;
  check_tokens(model, "teacher", request.teacher);
  const bool ends = std::any_of(request.teacher.begin(), request.teacher.end(), [&](uint32_t token) {
    return std::find(request.eos.begin(), request.eos.end(), token) != request.eos.end();
  });
  if (!ends && static_cast<int64_t>(request.teacher.size()) < most)
    throw invalid("teacher has " + std::to_string(request.teacher.size()) +
                  " tokens without an eos; it must have max_new_tokens, " + std::to_string(most));
}

uint64_t fingerprint(const Model& model, const PrefillRequest& request, const Layout& layout) {
  Hash hash;
  hash.add(model).add(static_cast<int64_t>(request.layout.method)).add(request.layout.document_tokens);
  hash.add(layout.anchor_document).add(layout.anchor_query_at).add(layout.anchor_length);
  for (const Layout::Block& block : layout.blocks) hash.add(block.start).add(block.end);
  for (const Layout::Block& mirror : layout.mirrors) hash.add(mirror.start).add(mirror.end);
  for (const int64_t n : layout.passing) hash.add(n);
  hash.add(static_cast<int64_t>(request.select)).add(static_cast<int64_t>(request.select_seed));
  if (has_anchor(request, layout)) hash.add(request.query);
  return hash.value();
}

uint64_t fingerprint(const Model& model, int64_t document_tokens, const DecodeRequest& request) {
  return Hash()
      .add(model)
      .add(document_tokens)
      .add(request.query)
      .add(request.max_new_tokens)
      .add(request.eos)
      .add(request.teacher)
      .add(static_cast<int64_t>(request.mlp))
      .value();
}

}  // namespace longhaul
