// A cohort's slowest rank, simulated on one GPU. All ranks run in step on it once, with a few layers, and each rank's
// received keys and values are kept; then a rank runs alone, receiving them again, and is timed. From the times of one and
// of three layers follow those of all: the first layers differ in nothing, and behind the last one no attention is needed.
#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstdio>

#include "comm/tcp.h"
#include "lockstep.h"
#include "memory.h"
#include "ops.h"
#include "random_model.h"
#include "timing.h"
#include "ways.h"

namespace bench {
namespace {

constexpr int kLayers = 32, kFew = 3, kRuns = 5;
constexpr double kRowKeyValues = 2.0 * 8 * 128 * 2;  // bytes of a layer and row

using Gpu = std::function<std::shared_ptr<Backend>()>;

/// The same weights on another backend of the same GPU, the first `layers` of them.
std::shared_ptr<Model> view_of(const Model& model, std::shared_ptr<Backend> backend, int layers) {
  auto view = std::make_shared<Model>(model);
  view->backend = std::move(backend);
  view->config.layers = layers;
  view->layers.resize(static_cast<size_t>(layers));
  return view;
}

struct Timed {
  double seconds = 0;  // of a whole prefill, scaled
  double bytes = 0;    // beside the weights, scaled
};

class Virtual {
 public:
  Virtual(const Gpu& gpu, int64_t tokens, int ranks)
      : gpu_(gpu), ranks_(ranks), document_(document_of(tokens)), keeper_(gpu()), alone_(gpu()), model_(random_model(keeper_, true, kFew)) {}

  Rates rates() {
    Rates rates = measure_rates(*view_of(*model_, alone_, kFew));
    for (double* each : {&rates.row_seconds, &rates.pair_seconds}) *each *= static_cast<double>(kLayers) / kFew;
    return rates;
  }

  /// What each rank of `wanted` receives in a run of all.
  std::vector<Tape> record(const Way& way, const std::vector<int>& wanted) {
    std::vector<Tape> tapes(static_cast<size_t>(ranks_));
    std::vector<Tape*> kept(tapes.size(), nullptr);
    for (const int r : wanted) kept[static_cast<size_t>(r)] = &tapes[static_cast<size_t>(r)];
    std::vector<std::shared_ptr<Backend>> backends;
    for (int r = 0; r < ranks_; ++r) backends.push_back(gpu_());
    auto communicators = connect_lockstep(backends, kept, keeper_);
    on_ranks(ranks_, [&](int rank) {
      const auto r = static_cast<size_t>(rank);
      Engine engine(view_of(*model_, backends[r], kFew), std::move(communicators[r]));
      run(engine, way, rank, {});
    });
    return tapes;
  }

  Timed alone(const Way& way, int rank, const Tape& tape) {
    std::vector<double> one, few;
    const double before = used_bytes();
    double most = before;
    const auto watch = [&](const Progress&) { most = std::max(most, used_bytes()); };
    for (const int layers : {1, kFew}) {
      std::unique_ptr<Playback> player = ranks_ > 1 ? play(tape, *alone_, rank, ranks_) : nullptr;
      Playback* rewind = player.get();
      Engine engine(view_of(*model_, alone_, layers), player ? std::move(player) : make_solo());
      for (int i = 0; i <= kRuns; ++i) {
        if (rewind) rewind->rewind();
        const double seconds = run(engine, way, rank, watch);
        if (i > 0) (layers == 1 ? one : few).push_back(seconds);  // the first allocates, and tries ways of multiplying
      }
    }
    std::vector<uint32_t> block;
    prefill_of(way, ranks_, rank, document_, question_, block);
    const auto rows = static_cast<double>(block.size());
    return {median(one) + (median(few) - median(one)) * (kLayers - 1) / (kFew - 1),
            most - before + (kLayers - kFew) * rows * kRowKeyValues};
  }

 private:
  double run(Engine& engine, const Way& way, int rank, const std::function<void(const Progress&)>& watch) {
    std::vector<uint32_t> block;
    const PrefillRequest request = prefill_of(way, ranks_, rank, document_, question_, block);
    Control control;
    control.collective_timeout = std::chrono::minutes(5);
    control.progress = watch;
    const double start = now();
    engine.prefill(request, control);
    return now() - start;
  }

  const Gpu gpu_;
  const int ranks_;
  const std::vector<uint32_t> document_, question_ = question();
  const std::shared_ptr<Backend> keeper_, alone_;
  const std::shared_ptr<Model> model_;
};

void line(const Way& way, int ranks, int64_t tokens, const std::vector<int>& which, const std::vector<Timed>& times) {
  std::printf("{\"method\": \"%s\", \"ranks\": %d, \"tokens\": %lld, \"anchor\": %lld, \"passing\": %lld, \"virtual\": true, ",
              way.name, ranks, static_cast<long long>(tokens), static_cast<long long>(way.anchor), static_cast<long long>(way.passing));
  const auto list = [](const char* name, const auto& values, const char* end) {
    std::printf("\"%s\": [", name);
    for (size_t i = 0; i < values.size(); ++i) std::printf("%s%s", i > 0 ? ", " : "", std::to_string(values[i]).c_str());
    std::printf("]%s", end);
  };
  std::vector<double> seconds, bytes;
  for (const Timed& each : times) seconds.push_back(each.seconds), bytes.push_back(each.bytes);
  list("timed_ranks", which, ", "), list("seconds", seconds, ", "), list("bytes", bytes, ", "), list("blocks", way.blocks, "}\n");
  std::fflush(stdout);
}

}  // namespace

void virtual_ranks(const Gpu& gpu, int64_t tokens, int ranks, const std::string& only) {
  if (chosen("full", only)) {
    const Way full{"full", Method::Full, 0, 0, {}, RingLayout::Contiguous};
    line(full, 1, tokens, {0}, {Virtual(gpu, tokens, 1).alone(full, 0, {})});
  }
  Virtual cohort(gpu, tokens, ranks);
  for (const Way& way : ways_of_ranks(tokens, ranks, cohort.rates())) {
    if (!chosen(way.name, only)) continue;
    // With APB any rank may be the slowest; otherwise the last has at least as much to do as each other.
    std::vector<int> which;
    for (int r = way.method == Method::Apb ? 0 : ranks - 1; r < ranks; ++r) which.push_back(r);
    const std::vector<Tape> tapes = cohort.record(way, which);
    std::vector<Timed> times;
    for (const int r : which) times.push_back(cohort.alone(way, r, tapes[static_cast<size_t>(r)]));
    line(way, ranks, tokens, which, times);
  }
}

}  // namespace bench
