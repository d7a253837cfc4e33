// Stopping, aborting, refusing, and several questions from one prefill.
#include <atomic>

#include "backends/cpu/cpu_backend.h"
#include "check.h"
#include "engine_files.h"
#include "engine_ranks.h"
#include "golden_case.h"
#include "plain_backend.h"
#include "thread_communicator.h"

using namespace longhaul;
using namespace longhaul::testing;

namespace {

/// A golden case with its engines, ready to be run well or badly.
struct Cohort {
  explicit Cohort(const std::string& name) : golden(name), ranks(golden.layout.ranks) {
    engines = make_engines(golden, connect_threads(ranks), [] { return make_cpu_backend({}); });
  }
  Engine& at(int rank) { return *engines[static_cast<size_t>(rank)]; }

  /// Both calls on every rank, as the golden case has them.
  void answer_correctly() {
    std::vector<DecodeResult> results(engines.size());
    rethrow(run_ranks(ranks, [&](int rank) {
      Control control;
      at(rank).prefill(golden.prefill(rank), control);
      results[static_cast<size_t>(rank)] = at(rank).decode(golden.decode, control);
    }));
    for (const DecodeResult& result : results) CHECK(result.tokens == golden.tokens);
  }
  /// Prefill on every rank, the request of one changed first; the errors.
  std::vector<std::exception_ptr> prefill(const std::function<void(int, PrefillRequest&)>& change) {
    return run_ranks(ranks, [&](int rank) {
      Control control;
      PrefillRequest request = golden.prefill(rank);
      change(rank, request);
      at(rank).prefill(request, control);
    });
  }
  std::vector<std::exception_ptr> decode(const std::function<void(int, DecodeRequest&)>& change) {
    return run_ranks(ranks, [&](int rank) {
      Control control;
      DecodeRequest request = golden.decode;
      change(rank, request);
      at(rank).decode(request, control);
    });
  }

  GoldenCase golden;
  int ranks;
  std::vector<std::unique_ptr<Engine>> engines;
};

void all_say(const std::vector<std::exception_ptr>& errors, const std::string& part) {
  for (const auto& error : errors) CHECK_CONTAINS(error_text(error), part);
}

}  // namespace

TEST("a stop in the middle of prefill stops all ranks, and the cohort works on") {
  Cohort cohort("apb-r3-no-anchor");
  std::vector<int64_t> layers(3);
  const auto errors = run_ranks(cohort.ranks, [&](int rank) {
    Control control;
    control.progress = [&](const Progress& progress) {
      CHECK(progress.phase == Progress::Phase::Prefill && progress.total == 3);
      layers[static_cast<size_t>(rank)] = progress.done;
      if (progress.done == 1) control.stop = rank == 0;
    };
    cohort.at(rank).prefill(cohort.golden.prefill(rank), control);
  });
  all_say(errors, "stopped: ");
  CHECK((layers == std::vector<int64_t>{1, 1, 1}));
  all_say(cohort.decode([](int, DecodeRequest&) {}), "invalid_argument: there is no document");
  cohort.answer_correctly();
}

TEST("a stop while decoding stops all ranks at the same token, and only rank 0's counts") {
  Cohort cohort("apb-r3-no-anchor");
  rethrow(cohort.prefill([](int, PrefillRequest&) {}));
  for (const int who : {0, 2}) {
    std::vector<int64_t> tokens(3);
    const auto errors = run_ranks(cohort.ranks, [&](int rank) {
      Control control;
      control.progress = [&](const Progress& progress) {
        tokens[static_cast<size_t>(rank)] = progress.done;
        if (progress.done == 2 && rank == who) control.stop = true;
      };
      cohort.at(rank).decode(cohort.golden.decode, control);
    });
    all_say(errors, who == 0 ? "stopped: " : "");
    const int64_t want = who == 0 ? 2 : cohort.golden.decode.max_new_tokens;
    CHECK((tokens == std::vector<int64_t>{want, want, want}));
  }
  cohort.answer_correctly();
}

TEST("abort from another thread ends the call on every rank") {
  Cohort cohort("apb-r3-no-anchor");
  std::thread killer;
  const auto errors = run_ranks(cohort.ranks, [&](int rank) {
    Control control;
    control.progress = [&](const Progress& progress) {
      if (rank != 1 || progress.done != 1) return;
      killer = std::thread([&] { cohort.at(1).communicator().abort(); });
      killer.join();
    };
    cohort.at(rank).prefill(cohort.golden.prefill(rank), control);
  });
  CHECK_CONTAINS(error_text(errors[1]), "aborted: ");
  CHECK_CONTAINS(error_text(errors[0]), "peer_lost: ");
  CHECK_CONTAINS(error_text(errors[2]), "peer_lost: ");
}

TEST("a rank that fails alone tells its peers at once instead of at their deadline") {
  Cohort cohort("apb-r3-no-anchor");
  const auto errors = run_ranks(cohort.ranks, [&](int rank) {
    Control control;
    if (rank == 2) control.progress = [](const Progress&) { throw std::runtime_error("broken"); };
    cohort.at(rank).prefill(cohort.golden.prefill(rank), control);
  });
  CHECK_CONTAINS(error_text(errors[2]), "broken");
  CHECK_CONTAINS(error_text(errors[0]), "peer_lost: ");
}

TEST("a peer that never comes ends the call at its deadline") {
  Cohort cohort("apb-r3-no-anchor");
  Control control;
  control.collective_timeout = std::chrono::milliseconds(20);
  CHECK_THROWS(CommError, "deadline", cohort.at(0).prefill(cohort.golden.prefill(0), control));
}

TEST("several questions after one prefill are answered as one at a time") {
  Cohort cohort("apb-r4-small-first-block");
  const std::vector<uint32_t> other{5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};
  const auto ask = [&](const std::vector<std::vector<uint32_t>>& queries, double temperature) {
    std::vector<std::vector<uint32_t>> answers(queries.size());
    rethrow(run_ranks(cohort.ranks, [&](int rank) {
      Control control;
      cohort.at(rank).prefill(cohort.golden.prefill(rank), control);
      for (size_t i = 0; i < queries.size(); ++i) {
        DecodeRequest request = cohort.golden.decode;
        request.query = queries[i];
        request.temperature = temperature;
        request.seed = 3;
        const DecodeResult result = cohort.at(rank).decode(request, control);
        if (rank == cohort.ranks - 1) answers[i] = result.tokens;
      }
    }));
    return answers;
  };
  const std::vector<uint32_t>& first = cohort.golden.query;
  const auto together = ask({first, other, first}, 0);
  CHECK(together[0] == cohort.golden.tokens && together[2] == together[0]);
  CHECK(together[1] == ask({other}, 0)[0] && together[1] != together[0]);
  const auto warm = ask({first, other, first}, 1.5);
  CHECK(warm[0] == warm[2] && warm[1] == ask({other}, 1.5)[0]);
}

TEST("requests that are wrong on all ranks are refused on all ranks, and the cohort works on") {
  Cohort cohort("apb-r3-no-anchor");
  const std::vector<uint32_t> bad{1, 288}, long_query(4000, 1), none;
  const auto refused = [&](const std::string& part, const std::function<void(PrefillRequest&)>& change) {
    all_say(cohort.prefill([&](int, PrefillRequest& request) { change(request); }), part);
  };
  refused("invalid_argument: layout.ranks is 2, but the communicator joins 3", [](auto& r) { r.layout.ranks = 2; });
  refused("invalid_argument: chunk_rows is -1", [](auto& r) { r.chunk_rows = -1; });
  refused("too_long: the document needs 4097 positions, the model has 4096",
          [](auto& r) { r.layout.document_tokens = 4097; });
  refused("invalid_argument: query has 0 tokens, the layout needs 8",
          [&](auto& r) { r.layout.anchor_length = 40, r.query = none; });
  refused("invalid_argument: query[1] is token 288, but the model has 288",
          [&](auto& r) { r.layout.anchor_length = 40, r.layout.query_tokens = 2, r.query = bad; });

  rethrow(cohort.prefill([](int, PrefillRequest&) {}));
  const auto wrong = [&](const std::string& part, const std::function<void(DecodeRequest&)>& change) {
    all_say(cohort.decode([&](int, DecodeRequest& request) { change(request); }), part);
  };
  wrong("invalid_argument: query is empty", [&](auto& r) { r.query = none; });
  wrong("invalid_argument: query[1] is token 288", [&](auto& r) { r.query = bad; });
  wrong("invalid_argument: max_new_tokens is 0", [](auto& r) { r.max_new_tokens = 0; });
  wrong("invalid_argument: temperature is -1", [](auto& r) { r.temperature = -1; });
  wrong("invalid_argument: teacher has 1 tokens", [](auto& r) { r.teacher = {1}; });
  wrong("too_long: the document with question and answer needs 4164 positions", [&](auto& r) { r.query = long_query; });
  cohort.answer_correctly();
}

TEST("a request that is wrong on one rank is refused on all ranks, and the cohort works on") {
  Cohort cohort("apb-r3-random");
  const std::vector<uint32_t> bad{288}, none;
  const auto refused = [&](int who, const std::string& own, const std::string& others,
                           const std::function<void(PrefillRequest&)>& change) {
    const auto errors = cohort.prefill([&](int rank, PrefillRequest& request) {
      if (rank == who) change(request);
    });
    for (int r = 0; r < cohort.ranks; ++r)
      CHECK_CONTAINS(error_text(errors[static_cast<size_t>(r)]), r == who ? own : others);
  };
  const std::string others = "invalid_argument: rank 1 refused its part of this call";
  refused(1, "invalid_argument: block has 0 tokens, the layout needs 57", others, [&](auto& r) { r.block = none; });
  refused(1, "invalid_argument: head has 0 tokens, the layout needs 32", others, [&](auto& r) { r.head = none; });
  const std::string differs = "invalid_argument: rank 2 was given another request or model than rank 0";
  refused(2, differs, differs, [](auto& r) { r.select_seed = 5; });
  rethrow(cohort.prefill([](int, PrefillRequest&) {}));
  all_say(cohort.decode([&](int rank, DecodeRequest& request) { request.max_new_tokens += rank == 1; }),
          "rank 1 was given another request");
  cohort.answer_correctly();
}

TEST("apb without retaining heads is refused, unless nothing is selected by them") {
  const GoldenCase golden("apb-r3-no-anchor");
  TemporaryFolder folder;
  for (const char* file : {"config.json", "model.safetensors"})
    std::filesystem::copy(golden.model_directory + "/" + file, folder / file);
  auto hub = connect_threads(golden.layout.ranks);
  const auto errors = run_ranks(golden.layout.ranks, [&](int rank) {
    Engine engine(Model::load(folder.path(), std::nullopt, std::make_shared<PlainBackend>()),
                  std::move(hub[static_cast<size_t>(rank)]));
    Control control;
    PrefillRequest request = golden.prefill(rank);
    CHECK_CONTAINS((CHECK_THROWS(EngineError, "invalid_argument", engine.prefill(request, control))),
                   "the model has none");
    request.select = Select::Random;
    engine.prefill(request, control);
    request.select = Select::Heads;
    request.layout.passing_length = 0;
    engine.prefill(request, control);
    engine.release();
    CHECK_THROWS(EngineError, "invalid_argument", engine.decode(golden.decode, control));
  });
  rethrow(errors);
}
