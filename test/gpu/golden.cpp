// Every golden case on the CUDA backend, ranks as threads that share a GPU, with the reference's
// tolerances for bfloat16 (test/cases/README.md): logits, clear choices, selections. Those of two ranks
// also by NCCL on two GPUs, and all of several ranks over tcp on two.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <set>

#include "golden_case.h"
#include "engine_ranks.h"
#include "nccl_ranks.h"
#include "thread_communicator.h"
#include "twins.h"

using namespace longhaul;
using namespace longhaul::testing;

namespace {

double bf16_fact(const GoldenCase& golden, const char* name) {
  return *golden.expected.find("bf16")->find(name)->number();
}

/// Largest difference of logits, in units of their standard deviation; infinite for NaN or a wrong count.
double logit_error(const GoldenCase& golden, const std::vector<float>& got) {
  const std::vector<double> want = golden.values("logits");
  if (got.size() != want.size()) return INFINITY;
  double worst = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    const double error = std::abs(want[i] - got[i]);
    if (!(error <= worst)) worst = std::isnan(error) ? INFINITY : error;
  }
  return worst / golden.logit_std;
}

/// Mean over layers, ranks and heads of |A and B| / m, where the engine recorded a selection.
double overlap(const GoldenCase& golden, const std::vector<Trace>& traces, size_t heads) {
  double sum = 0, count = 0;
  for (size_t r = 0; r < traces.size(); ++r)
    for (const auto& [layer, chosen] : traces[r].selected) {
      const std::vector<double> want = golden.values("selected." + std::to_string(layer) + "." + std::to_string(r));
      CHECK(want.size() == chosen.size());
      const size_t m = want.size() / heads;
      for (size_t h = 0; h < heads && m > 0; ++h) {
        const std::set<double> set(want.begin() + static_cast<std::ptrdiff_t>(h * m), want.begin() + static_cast<std::ptrdiff_t>((h + 1) * m));
        size_t common = 0;
        for (size_t i = 0; i < m; ++i) common += set.count(chosen[h * m + i]);
        sum += static_cast<double>(common) / static_cast<double>(m), ++count;
      }
    }
  return count > 0 ? sum / count : 1;
}

/// Tokens must agree up to the first choice that bfloat16 may take otherwise.
void check_tokens(const GoldenCase& golden, const std::vector<uint32_t>& got, double clear) {
  const Json::Array& margins = *golden.expected.find("margins")->array();
  for (size_t i = 0; i < golden.tokens.size(); ++i) {
    if (i < got.size() && got[i] == golden.tokens[i]) continue;
    if (*margins[i].number() < clear) return;
    check::fail(__FILE__, __LINE__, golden.name + ": token " + std::to_string(i) + " differs, and the choice was clear");
  }
  CHECK(got.size() == golden.tokens.size());
}

using Engines = std::vector<std::unique_ptr<Engine>>;

/// Ranks on both GPUs in turn, by NCCL or over tcp.
Engines engines_on_two_gpus(const GoldenCase& golden, CommChoice choice) {
  const int ranks = golden.layout.ranks;
  std::vector<std::shared_ptr<Backend>> backends;
  for (int r = 0; r < ranks; ++r) backends.push_back(gpu(r));
  comm_test::Listeners listeners(ranks);
  std::vector<std::unique_ptr<Communicator>> communicators(static_cast<size_t>(ranks));
  comm_test::on_threads(ranks, [&](int r) {
    const auto i = static_cast<size_t>(r);
    communicators[i] = connect_gpu(listeners, r, *backends[i], choice);
  });
  CHECK(communicators[0]->kind() == (choice == CommChoice::Nccl ? "nccl" : "tcp"));
  return make_engines(golden, std::move(communicators), [&, next = size_t{0}]() mutable { return backends[next++]; });
}

void run(const GoldenCase& golden, const Engines& engines) {
  const size_t ranks = engines.size();
  std::vector<Trace> traces(ranks);
  std::vector<DecodeResult> greedy(ranks), again(ranks), by_shares(ranks);
  rethrow(run_ranks(static_cast<int>(ranks), [&](int rank) {
    const auto r = static_cast<size_t>(rank);
    Control traced, plain;
    traced.trace = &traces[r];
    DecodeRequest teacher = golden.decode;
    teacher.teacher = golden.tokens;
    engines[r]->prefill(golden.prefill(rank), traced);
    engines[r]->decode(teacher, traced);
    greedy[r] = engines[r]->decode(golden.decode, plain);  // one rank: through recorded steps
    engines[r]->prefill(golden.prefill(rank), plain);
    again[r] = engines[r]->decode(golden.decode, plain);
    DecodeRequest shares = golden.decode;
    shares.mlp = MlpWork::Shared;
    by_shares[r] = engines[r]->decode(shares, plain);
  }));
  const double allowed = 2 * bf16_fact(golden, "logit_err"), error = logit_error(golden, traces[0].logits);
  const double least = bf16_fact(golden, "overlap_mean") - 0.05,
               shared = overlap(golden, traces, static_cast<size_t>(engines[0]->model().config.heads.key_value));
  std::printf("     logits %.4f std (allowed %.4f), selections %.4f (at least %.4f)\n", error, allowed, shared, least);
  CHECK(error <= allowed);
  CHECK(shared >= least);
  const double clear = 4 * bf16_fact(golden, "logit_err") * golden.logit_std;
  for (size_t r = 0; r < ranks; ++r) {
    check_tokens(golden, greedy[r].tokens, clear);
    check_tokens(golden, by_shares[r].tokens, clear);
    CHECK(by_shares[r].tokens == by_shares[0].tokens);
    CHECK(again[r].tokens == greedy[r].tokens && greedy[r].tokens == greedy[0].tokens);
  }
}

const bool registered = [] {
  for (const std::string& name : golden_case_names())
    check::registry().push_back({"gpu golden case " + name, [=] {
      const GoldenCase golden(name);
      run(golden, make_engines(golden, connect_threads(golden.layout.ranks), twins::make_gpu));
    }});
  const auto add = [](const std::string& name, CommChoice choice, const char* how) {
    check::registry().push_back({"gpu two: golden case " + name + how, [=] {
      const GoldenCase golden(name);
      if (two_gpus()) run(golden, engines_on_two_gpus(golden, choice));
    }});
  };
  for (const char* name : {"apb-r2-eos"}) add(name, CommChoice::Nccl, " by nccl");
  for (const char* name : {"apb-r2-eos", "apb-r4-uneven", "apb-r4-spava", "apb-r8", "full-r4", "star-r4-uneven"})
    add(name, CommChoice::Tcp, " over tcp");
  return true;
}();

}  // namespace

TEST("gpu decode: replayed steps answer as steps that are not recorded, over several pieces of the tail") {
  const GoldenCase golden("full-r1");
  auto engines = make_engines(golden, connect_threads(1), twins::make_gpu);
  Control plain, traced;
  Trace trace;
  traced.trace = &trace;
  DecodeRequest request = golden.decode;
  request.eos.clear();
  request.max_new_tokens = 600;  // longer than a piece
  engines[0]->prefill(golden.prefill(0), plain);
  {  // What the tail gets its memory from: freed, and full of NaN.
    Backend& backend = *engines[0]->model().backend;
    const std::vector<unsigned char> nan(16 << 20, 0xff);
    std::vector<BufferPtr> used;
    for (int i = 0; i < 8; ++i) backend.upload(used.emplace_back(backend.allocate(nan.size()))->data(), nan.data(), nan.size());
  }
  const DecodeResult replayed = engines[0]->decode(request, plain);
  const DecodeResult stepped = engines[0]->decode(request, traced);
  CHECK(replayed.tokens.size() == 600);
  CHECK(replayed.tokens == stepped.tokens);
}
