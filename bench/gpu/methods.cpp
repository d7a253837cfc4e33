// All methods at one document length, a rank per GPU by NCCL, beside `full` on one GPU: JSON lines, with phases.
#include <algorithm>
#include <cmath>

#include "comm/tcp.h"
#include "memory.h"
#include "ops.h"
#include "random_model.h"
#include "timing.h"
#include "ways.h"

namespace bench {
namespace {

constexpr double kLong = 12;  // seconds of a prefill that is timed once, together with its phases

class Cohort {
 public:
  Cohort(std::vector<std::shared_ptr<Model>> models, int64_t tokens) : models_(std::move(models)), document_(document_of(tokens)) {
    std::vector<std::shared_ptr<Backend>> backends;
    for (const auto& model : models_) backends.push_back(model->backend);
    std::vector<std::unique_ptr<Communicator>> communicators;
    if (models_.size() == 1) communicators.push_back(make_solo());
    else communicators = connect_nccl_ranks(backends);
    for (size_t r = 0; r < models_.size(); ++r) engines_.push_back(std::make_unique<Engine>(models_[r], std::move(communicators[r])));
  }

  /// Seconds of the slowest rank's prefill; with `phases`, the seconds of each rank's phases, which then wait for the GPU,
  /// and in `used` the most bytes that each rank's GPU held, asked once per layer.
  double prefill(const Way& way, std::vector<PhaseTimes>* phases = nullptr, std::vector<double>* used = nullptr) {
    if (phases) phases->assign(engines_.size(), {});
    if (used) used->assign(engines_.size(), 0);
    std::vector<double> seconds(engines_.size());
    on_ranks(static_cast<int>(engines_.size()), [&](int rank) {
      const auto r = static_cast<size_t>(rank);
      std::vector<uint32_t> block;
      const PrefillRequest request = prefill_of(way, static_cast<int>(engines_.size()), rank, document_, question_, block);
      Control control;
      if (phases) control.phases = &(*phases)[r];
      if (used) control.progress = [&](const Progress&) { (*used)[r] = std::max((*used)[r], used_bytes()); };
      const double start = now();
      engines_[r]->prefill(request, control);
      seconds[r] = now() - start;
    });
    return *std::max_element(seconds.begin(), seconds.end());
  }

  /// Median seconds of a decoded token after the last prefill.
  double decode(int64_t answer, MlpWork mlp) {
    std::vector<double> at;
    on_ranks(static_cast<int>(engines_.size()), [&](int rank) {
      Control control;
      if (rank == 0) control.progress = [&](const Progress&) { at.push_back(now()); };
      DecodeRequest request;
      request.query = question_;
      request.max_new_tokens = answer;
      request.mlp = mlp;
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
  const std::vector<uint32_t> document_, question_ = question();
};

/// Seconds of a decoded token where every rank computes the whole MLP and, of several ranks, where each computes a share:
/// the best of three turns.
std::string decodes(Cohort& cohort, int ranks) {
  double all = INFINITY, shared = INFINITY;
  for (int turn = 0; turn < 3; ++turn) {
    all = std::min(all, cohort.decode(35, MlpWork::All));
    if (ranks > 1) shared = std::min(shared, cohort.decode(35, MlpWork::Shared));
  }
  return std::to_string(all) + (ranks > 1 ? ", \"decode_shared_seconds\": " + std::to_string(shared) : "");
}

/// One line: what ran and how long it took, or why it did not.
void line(const Way& way, int ranks, int64_t tokens, const std::string& rest) {
  std::printf("{\"method\": \"%s\", \"ranks\": %d, \"tokens\": %lld, \"anchor\": %lld, \"passing\": %lld, %s}\n", way.name, ranks,
              static_cast<long long>(tokens), static_cast<long long>(way.anchor), static_cast<long long>(way.passing), rest.c_str());
  std::fflush(stdout);
}

void measure(Cohort& cohort, const Way& way, int ranks, int64_t tokens) {
  try {
    std::vector<PhaseTimes> phases;
    std::vector<double> seconds, used;
    const double first = cohort.prefill(way);  // allocates, and tries ways of multiplying
    for (int i = 0; i < 3 && first < kLong; ++i) seconds.push_back(cohort.prefill(way));
    const double with_phases = cohort.prefill(way, &phases, &used);
    if (seconds.empty()) seconds.push_back(with_phases);
    const auto list = [](const auto& values) {
      std::string text;
      for (const auto& value : values) text += (text.empty() ? "" : ", ") + std::to_string(value);
      return "[" + text + "]";
    };
    std::string rest = "\"seconds\": " + list(seconds) + ", \"decode_seconds\": " + decodes(cohort, ranks) +
                       ", \"used_bytes\": " + list(used) + ", \"blocks\": " + list(way.blocks) + ", \"phases\": [";
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

void methods(const std::function<std::shared_ptr<Backend>(int)>& gpu, int64_t tokens, int ranks, const std::string& only) {
  std::vector<std::shared_ptr<Model>> models(static_cast<size_t>(ranks));
  on_ranks(ranks, [&](int r) { models[static_cast<size_t>(r)] = random_model(gpu(r), true); });
  if (chosen("full", only)) {
    Cohort alone({models[0]}, tokens);
    measure(alone, {"full", Method::Full, 0, 0, {}, RingLayout::Contiguous}, 1, tokens);
  }
  const Rates rates = measure_rates(*models[0]);
  Cohort cohort(models, tokens);
  for (const Way& way : ways_of_ranks(tokens, ranks, rates))
    if (chosen(way.name, only)) measure(cohort, way, ranks, tokens);
}

}  // namespace bench
