#include "ways.h"

#include <algorithm>
#include <cmath>

#include "comm/choose.h"
#include "comm/tcp.h"
#include "engine_ranks.h"

namespace bench {
namespace {

/// By bisection over the time, and within it over each block.
std::vector<int64_t> balanced(const Way& way, int64_t tokens, int ranks, const Rates& rates) {
  const auto cost = [&](double block, int rank) {
    const double anchor = rank > 0 ? static_cast<double>(way.anchor) : 0, seen = anchor + rank * static_cast<double>(way.passing);
    return (block + anchor) * rates.row_seconds + (anchor * anchor / 2 + block * block / 2 + block * seen) * rates.pair_seconds;
  };
  const auto block = [&](int rank, double seconds) {
    double low = static_cast<double>(way.passing), high = static_cast<double>(tokens);
    for (int i = 0; i < 60; ++i) (cost((low + high) / 2, rank) < seconds ? low : high) = (low + high) / 2;
    return low;
  };
  double low = 0, high = cost(static_cast<double>(tokens), 0) * 2;
  for (int i = 0; i < 60; ++i) {
    double sum = 0;
    for (int r = 0; r < ranks; ++r) sum += block(r, (low + high) / 2);
    (sum < static_cast<double>(tokens) ? low : high) = (low + high) / 2;
  }
  std::vector<int64_t> out;
  int64_t left = tokens;
  for (int r = 0; r + 1 < ranks; ++r) {
    out.push_back(std::llround(block(r, high) / 128) * 128);
    left -= out.back();
  }
  out.push_back(left);
  return out;
}

}  // namespace

bool chosen(std::string_view name, std::string_view names) {
  if (names.empty()) return true;
  for (;;) {
    const size_t comma = names.find(',');
    if (names.substr(0, comma) == name) return true;
    if (comma == std::string_view::npos) return false;
    names.remove_prefix(comma + 1);
  }
}

Way apb(const char* name, int64_t tokens, int ranks) {
  const int64_t most = tokens / ranks / 2;
  const int64_t anchor = std::min<int64_t>({tokens / 32, 8192, most}), passing = std::min<int64_t>({tokens / 64, 8192, most});
  return {name, Method::Apb, anchor, passing, {}, RingLayout::Contiguous};
}

Way apb_uneven(int64_t tokens, int ranks, const Rates& rates) {
  Way way = apb("apb uneven", tokens, ranks);
  way.blocks = balanced(way, tokens, ranks, rates);
  return way;
}

std::vector<Way> ways_of_ranks(int64_t tokens, int ranks, const Rates& rates) {
  return {apb("apb", tokens, ranks), apb_uneven(tokens, ranks, rates), {"star", Method::Star, 0, 0, {}, RingLayout::Contiguous},
          {"ring", Method::Ring, 0, 0, {}, RingLayout::Contiguous}, {"ring zigzag", Method::Ring, 0, 0, {}, RingLayout::Zigzag},
          {"ulysses", Method::Ulysses, 0, 0, {}, RingLayout::Contiguous}};
}

std::vector<uint32_t> document_of(int64_t tokens) {
  std::vector<uint32_t> document;
  for (int64_t i = 0; i < tokens; ++i) document.push_back(static_cast<uint32_t>(static_cast<uint64_t>(i) * 2654435761u % 128256));
  return document;
}

std::vector<uint32_t> question() { return std::vector<uint32_t>(32, 17); }

PrefillRequest prefill_of(const Way& way, int ranks, int rank, const std::vector<uint32_t>& document,
                          const std::vector<uint32_t>& question, std::vector<uint32_t>& block) {
  const bool apb = way.method == Method::Apb;
  PrefillRequest request;
  request.layout.method = way.method;
  request.layout.ranks = ranks;
  request.layout.document_tokens = static_cast<int64_t>(document.size());
  request.layout.query_tokens = apb ? static_cast<int64_t>(question.size()) : 0;
  if (apb) request.layout.anchor_length = way.anchor;
  request.layout.passing_length = way.passing;
  request.layout.blocks = way.blocks;
  request.layout.ring_layout = way.ring;
  const Layout layout = plan_layout(request.layout);
  const auto r = static_cast<size_t>(rank);
  block.clear();
  for (const Layout::Block& piece : {layout.blocks[r], layout.mirrors[r]})
    block.insert(block.end(), document.begin() + piece.start, document.begin() + piece.end);
  request.block = block;
  if (rank > 0) request.head = std::span(document).first(static_cast<size_t>(layout.anchor_document));
  if (apb) request.query = question;
  return request;
}

void on_ranks(int ranks, const std::function<void(int)>& body) { testing::rethrow(testing::run_ranks(ranks, body)); }

std::vector<std::unique_ptr<Communicator>> connect_nccl_ranks(const std::vector<std::shared_ptr<Backend>>& backends) {
  const auto ranks = static_cast<int>(backends.size());
  std::vector<std::unique_ptr<TcpListener>> listeners;
  std::vector<std::string> peers;
  for (int r = 0; r < ranks; ++r) {
    listeners.push_back(std::make_unique<TcpListener>("127.0.0.1"));
    peers.push_back("127.0.0.1:" + std::to_string(listeners.back()->port()));
  }
  std::vector<std::unique_ptr<Communicator>> all(backends.size());
  on_ranks(ranks, [&](int rank) {
    const auto r = static_cast<size_t>(rank);
    const Deadline deadline = Clock::now() + std::chrono::seconds(60);
    all[r] = choose_communicator(connect_tcp(*listeners[r], rank, peers, "bench", deadline), *backends[r],
                                 {CommChoice::Nccl, ""}, deadline);
  });
  return all;
}

}  // namespace bench
