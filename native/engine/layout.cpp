#include "layout.h"

#include <algorithm>
#include <string>

#include "errors.h"

namespace longhaul {
namespace {

[[noreturn]] void refuse(const std::string& field, int64_t value, const std::string& remedy) {
  throw EngineError("invalid_argument", field + " is " + std::to_string(value) + "; " + remedy);
}

void check_numbers(const LayoutRequest& request) {
  if (request.ranks < 1) refuse("ranks", request.ranks, "at least one rank is needed");
  const auto not_negative = [](const char* field, int64_t value) {
    if (value < 0) refuse(field, value, "it cannot be negative");
  };
  not_negative("document_tokens", request.document_tokens);
  not_negative("query_tokens", request.query_tokens);
  not_negative("passing_length", request.passing_length);
  not_negative("query_position", request.query_position);
  if (request.anchor_length) not_negative("anchor_length", *request.anchor_length);
}

/// The first ones take the rest.
std::vector<int64_t> even(int64_t tokens, int64_t parts) {
  std::vector<int64_t> lengths;
  for (int64_t i = 0; i < parts; ++i) lengths.push_back(tokens / parts + (i < tokens % parts ? 1 : 0));
  return lengths;
}

std::vector<Layout::Block> split(const LayoutRequest& request) {
  const int64_t n = request.document_tokens, ranks = request.ranks;
  const std::vector<int64_t> lengths = request.blocks.empty() ? even(n, ranks) : request.blocks;
  if (static_cast<int64_t>(lengths.size()) != ranks)
    refuse("blocks' count", static_cast<int64_t>(lengths.size()),
           "give one length for each of the " + std::to_string(ranks) + " ranks");
  std::vector<Layout::Block> blocks;
  int64_t at = 0;
  for (const int64_t length : lengths) {
    if (length < 0 || length > n - at)
      refuse("blocks[" + std::to_string(blocks.size()) + "]", length,
             std::to_string(n - at) + " document tokens are left for it");
    blocks.push_back({at, at + length});
    at += length;
  }
  if (at != n) refuse("blocks' sum", at, "it must be document_tokens, " + std::to_string(n));
  return blocks;
}

/// Zigzag: every rank's two pieces.
void fold(const LayoutRequest& request, Layout& layout) {
  if (request.method != Method::Ring)
    throw EngineError("invalid_argument", "ring_layout is zigzag; it belongs to method ring");
  if (!request.blocks.empty())
    refuse("blocks' count", static_cast<int64_t>(request.blocks.size()),
           "zigzag balances the ranks by itself: leave blocks out, or choose the contiguous layout");
  LayoutRequest chunks = request;
  chunks.ranks = 2 * request.ranks;
  const std::vector<Layout::Block> pieces = split(chunks);
  layout.blocks.assign(pieces.begin(), pieces.begin() + request.ranks);
  layout.mirrors.assign(pieces.rbegin(), pieces.rbegin() + request.ranks);
  if (request.ranks == 1) layout.blocks[0].end = layout.mirrors[0].end, layout.mirrors[0] = {};  // the two meet
}

/// Star (Star Attention, 2411.17116): leading document tokens. APB: those with the query inside, where there is one.
void place_anchor(const LayoutRequest& request, Layout& layout) {
  const int64_t n = request.document_tokens;
  if (request.method == Method::Star) {
    layout.anchor_document = layout.anchor_length = std::min(request.anchor_length.value_or(layout.blocks[0].end), n);
    return;
  }
  const int64_t length = *request.anchor_length;
  if (length == 0) return;
  if (request.query_tokens > 0 && length - request.query_tokens < request.query_position)
    refuse("anchor_length", length,
           "it must hold query_position, " + std::to_string(request.query_position) +
               ", document tokens and the query's " + std::to_string(request.query_tokens));
  layout.anchor_document = std::min(length - request.query_tokens, n);
  layout.anchor_query_at = std::min(request.query_position, layout.anchor_document);
  layout.anchor_length = layout.anchor_document + request.query_tokens;
}

}  // namespace

Layout plan_layout(const LayoutRequest& request) {
  check_numbers(request);
  const bool apb = request.method == Method::Apb;
  if (apb && !request.anchor_length)
    throw EngineError("invalid_argument", "anchor_length is not set; apb needs it (0 means no anchor)");
  Layout layout;
  layout.mirrors.assign(static_cast<size_t>(request.ranks), {});
  if (request.ring_layout == RingLayout::Zigzag) fold(request, layout);
  else layout.blocks = split(request);
  layout.passing.assign(static_cast<size_t>(request.ranks), 0);
  if ((!apb && request.method != Method::Star) || request.ranks == 1) return layout;
  place_anchor(request, layout);
  if (!apb) return layout;
  for (size_t r = 0; r + 1 < layout.blocks.size(); ++r) {
    const int64_t rows = layout.blocks[r].end - layout.blocks[r].start;
    // Rank 0 does not pass on what the receivers' anchor already holds.
    const int64_t candidates = r == 0 ? rows - std::min(layout.anchor_document, rows) : rows;
    layout.passing[r] = std::min(request.passing_length, candidates);
  }
  return layout;
}

}  // namespace longhaul
