// All methods at one document length, a rank per GPU by NCCL, beside `full` on one GPU: JSON lines, with phases.
#include <cmath>
#include <stdexcept>
#include <thread>

#include "comm/choose.h"
#include "comm/tcp.h"
#include "engine/engine.h"
#include "engine/rates.h"
#include "ops.h"
#include "random_model.h"
#include "timing.h"

namespace bench {
namespace {

struct Way {
  const char* name;
  Method method;
  int64_t anchor = 0, passing = 0;
  std::vector<int64_t> blocks;  // empty: even
  RingLayout ring = RingLayout::Contiguous;
};

/// Anchor and passing length as the authors choose them by document length, at most half a block.
Way apb(const char* name, int64_t tokens, int ranks) {
  const int64_t most = tokens / ranks / 2;
  const int64_t anchor = std::min<int64_t>({tokens / 32, 8192, most}), passing = std::min<int64_t>({tokens / 64, 8192, most});
  return {name, Method::Apb, anchor, passing, {}, RingLayout::Contiguous};
}

/// Lengths with which all ranks end together at these rates, by bisection; multiples of 128.
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

/// Runs body(rank) on a thread per rank; rethrows the first failure.
void on_ranks(int ranks, const std::function<void(int)>& body) {
  std::vector<std::exception_ptr> failures(static_cast<size_t>(ranks));
  std::vector<std::thread> threads;
  for (int r = 0; r < ranks; ++r)
    threads.emplace_back([&, r] {
      try {
        body(r);
      } catch (...) {
        failures[static_cast<size_t>(r)] = std::current_exception();
      }
    });
  for (std::thread& thread : threads) thread.join();
  for (const auto& failure : failures)
    if (failure) std::rethrow_exception(failure);
}

class Cohort {
 public:
  Cohort(std::vector<std::shared_ptr<Model>> models, int64_t tokens) : models_(std::move(models)) {
    for (int64_t i = 0; i < tokens; ++i) document_.push_back(static_cast<uint32_t>(static_cast<uint64_t>(i) * 2654435761u % 128256));
    const int ranks = static_cast<int>(models_.size());
    std::vector<std::unique_ptr<TcpListener>> listeners;
    std::vector<std::string> peers;
    for (int r = 0; r < ranks; ++r) {
      listeners.push_back(std::make_unique<TcpListener>("127.0.0.1"));
      peers.push_back("127.0.0.1:" + std::to_string(listeners.back()->port()));
    }
    engines_.resize(models_.size());
    on_ranks(ranks, [&](int r) {
      const auto i = static_cast<size_t>(r);
      const Deadline deadline = Clock::now() + std::chrono::seconds(60);
      auto communicator = ranks == 1 ? make_solo()
                                     : choose_communicator(connect_tcp(*listeners[i], r, peers, "bench", deadline),
                                                           *models_[i]->backend, {CommChoice::Nccl, ""}, deadline);
      engines_[i] = std::make_unique<Engine>(models_[i], std::move(communicator));
    });
  }

  /// Seconds of the slowest rank's prefill; with `phases`, the seconds of each rank's phases, which then wait for the GPU.
  double prefill(const Way& way, std::vector<PhaseTimes>* phases = nullptr) {
    PrefillRequest shared;
    shared.layout.method = way.method;
    shared.layout.ranks = static_cast<int>(engines_.size());
    shared.layout.document_tokens = static_cast<int64_t>(document_.size());
    shared.layout.query_tokens = way.method == Method::Apb ? static_cast<int64_t>(question_.size()) : 0;
    if (way.method == Method::Apb) shared.layout.anchor_length = way.anchor;
    shared.layout.passing_length = way.passing;
    shared.layout.blocks = way.blocks;
    shared.layout.ring_layout = way.ring;
    const Layout layout = plan_layout(shared.layout);
    if (phases) phases->assign(engines_.size(), {});
    std::vector<double> seconds(engines_.size());
    on_ranks(static_cast<int>(engines_.size()), [&](int rank) {
      const auto r = static_cast<size_t>(rank);
      std::vector<uint32_t> block;
      for (const Layout::Block& piece : {layout.blocks[r], layout.mirrors[r]})
        block.insert(block.end(), document_.begin() + piece.start, document_.begin() + piece.end);
      PrefillRequest request = shared;
      request.block = block;
      if (rank > 0) request.head = std::span(document_).first(static_cast<size_t>(layout.anchor_document));
      if (way.method == Method::Apb) request.query = question_;
      Control control;
      if (phases) control.phases = &(*phases)[r];
      const double start = now();
      engines_[r]->prefill(request, control);
      seconds[r] = now() - start;
    });
    return *std::max_element(seconds.begin(), seconds.end());
  }

  /// Median seconds of a decoded token after the last prefill.
  double decode(int64_t answer) {
    std::vector<double> at;
    on_ranks(static_cast<int>(engines_.size()), [&](int rank) {
      Control control;
      if (rank == 0) control.progress = [&](const Progress&) { at.push_back(now()); };
      DecodeRequest request;
      request.query = question_;
      request.max_new_tokens = answer;
      engines_[static_cast<size_t>(rank)]->decode(request, control);
    });
    std::vector<double> steps;
    for (size_t i = 3; i < at.size(); ++i) steps.push_back(at[i] - at[i - 1]);
    return median(steps);
  }

  void release() {
    for (auto& engine : engines_) engine->release();
  }

 private:
  std::vector<std::shared_ptr<Model>> models_;
  std::vector<std::unique_ptr<Engine>> engines_;
  std::vector<uint32_t> document_;
  const std::vector<uint32_t> question_ = std::vector<uint32_t>(32, 17);
};

/// One line: what ran and how long it took, or why it did not.
void line(const Way& way, int ranks, int64_t tokens, const std::string& rest) {
  std::printf("{\"method\": \"%s\", \"ranks\": %d, \"tokens\": %lld, \"anchor\": %lld, \"passing\": %lld, %s}\n", way.name, ranks,
              static_cast<long long>(tokens), static_cast<long long>(way.anchor), static_cast<long long>(way.passing), rest.c_str());
  std::fflush(stdout);
}

void measure(Cohort& cohort, const Way& way, int ranks, int64_t tokens) {
  try {
    cohort.prefill(way);  // allocates, and times shapes of products
    std::string rest = "\"seconds\": [";
    for (int i = 0; i < 3; ++i) rest += (i > 0 ? ", " : "") + std::to_string(cohort.prefill(way));
    rest += "], \"decode_seconds\": " + std::to_string(cohort.decode(35)) + ", \"blocks\": [";
    for (size_t r = 0; r < way.blocks.size(); ++r) rest += (r > 0 ? ", " : "") + std::to_string(way.blocks[r]);
    rest += "], \"phases\": [";
    std::vector<PhaseTimes> phases;
    cohort.prefill(way, &phases);
    for (size_t r = 0; r < phases.size(); ++r) {
      rest += r > 0 ? ", {" : "{";
      for (size_t i = 0; i < phases[r].size(); ++i)
        rest += (i > 0 ? ", \"" : "\"") + std::string(kPhaseNames[i]) + "\": " + std::to_string(phases[r][i]);
      rest += "}";
    }
    line(way, ranks, tokens, rest + "]");
  } catch (const EngineError& error) {
    if (error.code() != "out_of_memory") throw;
    line(way, ranks, tokens, "\"error\": \"out_of_memory\"");
    if (ranks > 1) throw;  // the cohort is broken
  }
  cohort.release();
}

}  // namespace

void methods(const std::function<std::shared_ptr<Backend>(int)>& gpu, int64_t tokens, int ranks) {
  std::vector<std::shared_ptr<Model>> models(static_cast<size_t>(ranks));
  on_ranks(ranks, [&](int r) { models[static_cast<size_t>(r)] = random_model(gpu(r), true); });
  {
    Cohort alone({models[0]}, tokens);
    measure(alone, {"full", Method::Full, 0, 0, {}, RingLayout::Contiguous}, 1, tokens);
  }
  const Rates rates = measure_rates(*models[0]);
  Cohort cohort(models, tokens);
  Way uneven = apb("apb uneven", tokens, ranks);
  uneven.blocks = balanced(uneven, tokens, ranks, rates);
  for (const Way& way : {apb("apb", tokens, ranks), uneven, Way{"star", Method::Star, 0, 0, {}, RingLayout::Contiguous},
                         Way{"ring", Method::Ring, 0, 0, {}, RingLayout::Contiguous},
                         Way{"ring zigzag", Method::Ring, 0, 0, {}, RingLayout::Zigzag},
                         Way{"ulysses", Method::Ulysses, 0, 0, {}, RingLayout::Contiguous}})
    measure(cohort, way, ranks, tokens);
}

}  // namespace bench
