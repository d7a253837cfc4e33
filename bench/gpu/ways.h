// What a benchmark of the methods runs: a method with its lengths, over ranks that are threads.
#pragma once

#include <functional>
#include <memory>
#include <string_view>
#include <vector>

#include "engine/engine.h"
#include "engine/rates.h"

namespace bench {

using namespace longhaul;

struct Way {
  const char* name;
  Method method;
  int64_t anchor = 0, passing = 0;  // apb
  std::vector<int64_t> blocks;      // empty: even
  RingLayout ring = RingLayout::Contiguous;
};

/// Anchor and passing length as the authors choose them by document length, at most half a block.
Way apb(const char* name, int64_t tokens, int ranks);

/// `apb` with lengths of blocks, in multiples of 128, with which all ranks end together at these rates.
Way apb_uneven(int64_t tokens, int ranks, const Rates& rates);

/// Whether `name` is one of `names`, which commas separate; none: every name is.
bool chosen(std::string_view name, std::string_view names);

/// Every method on several ranks; APB with even blocks and with uneven ones.
std::vector<Way> ways_of_ranks(int64_t tokens, int ranks, const Rates& rates);

/// The same tokens in every benchmark.
std::vector<uint32_t> document_of(int64_t tokens);
std::vector<uint32_t> question();

/// One rank's part of a prefill. The spans look into `document`, `question` and `block`, which it fills.
PrefillRequest prefill_of(const Way& way, int ranks, int rank, const std::vector<uint32_t>& document,
                          const std::vector<uint32_t>& question, std::vector<uint32_t>& block);

/// Runs body(rank) on a thread per rank; rethrows the first failure.
void on_ranks(int ranks, const std::function<void(int)>& body);

/// Ranks of this process by NCCL, each on its backend's GPU.
std::vector<std::unique_ptr<Communicator>> connect_nccl_ranks(const std::vector<std::shared_ptr<Backend>>& backends);

}  // namespace bench
