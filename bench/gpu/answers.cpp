// Recorded documents answered in bfloat16 on the GPU, some of them in float32 on the CPU as well (test/gpu/demo_model.py).
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <set>

#include "backends/cpu/cpu_backend.h"
#include "engine/engine.h"
#include "engine/files.h"
#include "engine/model.h"
#include "engine_ranks.h"
#include "ops.h"
#include "thread_communicator.h"

namespace bench {
namespace {

using namespace longhaul;
using namespace longhaul::testing;

using Engines = std::vector<std::unique_ptr<Engine>>;

/// A document of the file: ten counts, then its tokens.
struct Recorded {
  LayoutRequest layout;
  int64_t line = 0;
  bool compare = false;
  std::vector<uint32_t> document, query, answer, eos;

  PrefillRequest prefill(int rank) const {
    const Layout plan = plan_layout(layout);
    const Layout::Block& block = plan.blocks[static_cast<size_t>(rank)];
    const std::span<const uint32_t> all(document);
    PrefillRequest request;
    request.layout = layout;
    if (rank > 0) request.head = all.first(static_cast<size_t>(plan.anchor_document));
    request.block = all.subspan(static_cast<size_t>(block.start), static_cast<size_t>(block.end - block.start));
    request.query = query;
    return request;
  }
};

std::vector<Recorded> read(const std::string& path) {
  const MappedFile file(path, "invalid_argument");
  std::vector<uint32_t> words(file.bytes() / 4);
  std::memcpy(words.data(), file.data(), words.size() * 4);
  std::vector<Recorded> all;
  for (size_t at = 0; at < words.size();) {
    const uint32_t* head = &words[at];
    Recorded next;
    next.line = head[0], next.compare = head[1] != 0;
    next.layout.method = head[2] != 0 ? Method::Apb : Method::Full;
    next.layout.ranks = static_cast<int>(head[3]);
    next.layout.document_tokens = head[6], next.layout.query_tokens = head[7];
    if (head[2] != 0) next.layout.anchor_length = head[4], next.layout.passing_length = head[5];
    next.eos = {head[9]};
    at += 10;
    const auto take = [&](std::vector<uint32_t>& to, uint32_t count) {
      to.assign(words.begin() + static_cast<std::ptrdiff_t>(at), words.begin() + static_cast<std::ptrdiff_t>(at + count));
      at += count;
    };
    take(next.document, head[6]), take(next.query, head[7]), take(next.answer, head[8]);
    all.push_back(std::move(next));
  }
  return all;
}

Engines start(int ranks, const std::string& directory, const std::function<std::shared_ptr<Backend>()>& backend) {
  auto communicators = connect_threads(ranks);
  Engines engines;
  for (auto& communicator : communicators)
    engines.push_back(std::make_unique<Engine>(Model::load(directory, std::nullopt, backend()), std::move(communicator)));
  return engines;
}

struct Run {
  std::vector<uint32_t> tokens;  // its own choices
  std::vector<Trace> traces;     // of the recorded answer's tokens, fed
};

Run answer(Engines& engines, const Recorded& recorded, bool trace) {
  Run run;
  run.traces.resize(engines.size());
  rethrow(run_ranks(static_cast<int>(engines.size()), [&](int rank) {
    const auto r = static_cast<size_t>(rank);
    Control plain, traced;
    traced.trace = &run.traces[r];
    engines[r]->prefill(recorded.prefill(rank), trace ? traced : plain);
    DecodeRequest request;
    request.query = recorded.query;
    request.max_new_tokens = static_cast<int64_t>(recorded.answer.size());
    request.eos = recorded.eos;
    const DecodeResult own = engines[r]->decode(request, plain);
    if (rank == 0) run.tokens = own.tokens;
    if (!trace) return;
    request.teacher = recorded.answer;
    engines[r]->decode(request, traced);
  }));
  return run;
}

/// Mean share of common indices of each layer's, rank's and head's choice; negative: nothing was chosen.
double overlap(const Run& a, const Run& b, size_t heads) {
  double sum = 0, count = 0;
  for (size_t r = 0; r < a.traces.size(); ++r)
    for (const auto& [layer, chosen] : a.traces[r].selected) {
      const std::vector<int32_t>& other = b.traces[r].selected.at(layer);
      const size_t m = chosen.size() / heads;
      for (size_t h = 0; h < heads && m > 0; ++h) {
        const auto from = static_cast<std::ptrdiff_t>(h * m), to = static_cast<std::ptrdiff_t>((h + 1) * m);
        const std::set<int32_t> set(chosen.begin() + from, chosen.begin() + to);
        sum += static_cast<double>(std::count_if(other.begin() + from, other.begin() + to, [&](int32_t i) { return set.count(i) > 0; })) / static_cast<double>(m);
        ++count;
      }
    }
  return count > 0 ? sum / count : -1;
}

/// Of float32 logits and bfloat16 ones: the largest difference, and the largest change of a gap between float32's best
/// token and any other that is within 2 of it, so that could become the best.
void print_errors(const std::vector<float>& exact, const std::vector<float>& rounded, size_t vocabulary) {
  double largest = 0, gap = 0, square = 0;
  for (size_t at = 0; at < exact.size(); at += vocabulary) {
    const auto row = exact.begin() + static_cast<std::ptrdiff_t>(at);
    const auto best = static_cast<size_t>(std::max_element(row, row + static_cast<std::ptrdiff_t>(vocabulary)) - row);
    const double moved = rounded[at + best] - exact[at + best];
    for (size_t i = 0; i < vocabulary; ++i) {
      const double error = rounded[at + i] - exact[at + i];
      largest = std::max(largest, std::abs(error)), square += error * error;
      if (exact[at + best] - exact[at + i] < 2) gap = std::max(gap, std::abs(error - moved));
    }
  }
  std::printf(", \"error\": %.5f, \"rms\": %.5f, \"gap_error\": %.5f", largest, std::sqrt(square / static_cast<double>(exact.size())), gap);
}

void print_tokens(const std::vector<uint32_t>& tokens) {
  for (size_t i = 0; i < tokens.size(); ++i) std::printf("%s%u", i > 0 ? ", " : "", tokens[i]);
}

}  // namespace

void answers(const std::string& directory, const std::string& path, const std::function<std::shared_ptr<Backend>()>& gpu) {
  std::map<int, Engines> on_gpu, on_cpu;  // by number of ranks
  for (const Recorded& recorded : read(path)) {
    const int ranks = recorded.layout.ranks;
    if (on_gpu[ranks].empty()) on_gpu[ranks] = start(ranks, directory, gpu);
    const Run got = answer(on_gpu[ranks], recorded, recorded.compare);
    std::printf("{\"line\": %lld, \"ranks\": %d, \"tokens\": [", static_cast<long long>(recorded.line), ranks);
    print_tokens(got.tokens);
    std::printf("]");
    if (recorded.compare) {
      const int threads = std::max(1, static_cast<int>(std::thread::hardware_concurrency()) / ranks);
      if (on_cpu[ranks].empty()) on_cpu[ranks] = start(ranks, directory, [&] { return make_cpu_backend({threads, Isa::Auto}); });
      const Run exact = answer(on_cpu[ranks], recorded, true);
      std::printf(", \"cpu\": [");
      print_tokens(exact.tokens);
      std::printf("]");
      const Config& config = on_cpu[ranks][0]->model().config;
      print_errors(exact.traces[0].logits, got.traces[0].logits, static_cast<size_t>(config.vocabulary));
      const double shared = overlap(exact, got, static_cast<size_t>(config.heads.key_value));
      if (shared >= 0) std::printf(", \"overlap\": %.5f", shared);
    }
    std::printf("}\n");
    std::fflush(stdout);
  }
}

}  // namespace bench
