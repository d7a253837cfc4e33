// Training-free selection, beside the golden cases: where it cannot work, and where nobody would receive anything.
#include "backends/cpu/cpu_backend.h"
#include "check.h"
#include "engine_files.h"
#include "engine_ranks.h"
#include "golden_case.h"
#include "thread_communicator.h"

using namespace longhaul;
using namespace longhaul::testing;

namespace {

struct Cohort {
  explicit Cohort(const std::string& name) : golden(name) {
    engines = make_engines(golden, connect_threads(golden.layout.ranks), [] { return make_cpu_backend({}); });
  }
  std::vector<std::exception_ptr> prefill() {
    return run_ranks(golden.layout.ranks, [&](int rank) {
      Control control;
      engines[static_cast<size_t>(rank)]->prefill(golden.prefill(rank), control);
    });
  }
  std::vector<uint32_t> answer() {
    rethrow(prefill());
    std::vector<DecodeResult> results(engines.size());
    rethrow(run_ranks(golden.layout.ranks, [&](int rank) {
      Control control;
      results[static_cast<size_t>(rank)] = engines[static_cast<size_t>(rank)]->decode(golden.decode, control);
    }));
    return results[0].tokens;
  }
  GoldenCase golden;
  std::vector<std::unique_ptr<Engine>> engines;
};

}  // namespace

TEST("spava without an anchor has no query to select by, and is refused on every rank") {
  Cohort cohort("apb-r3-spava");
  cohort.golden.layout.anchor_length = 0;
  for (const auto& error : cohort.prefill())
    CHECK_CONTAINS(error_text(error), "invalid_argument: select spava takes the query from the anchor, and anchor_length is 0");
  cohort.golden.layout.passing_length = 0;  // nothing to select
  rethrow(cohort.prefill());
}

TEST("spava with an anchor without a query is refused on every rank") {
  Cohort cohort("apb-r3-spava");
  cohort.golden.in_anchor.clear();
  cohort.golden.layout.query_tokens = 0;
  for (const auto& error : cohort.prefill())
    CHECK_CONTAINS(error_text(error), "invalid_argument: select spava takes the query from the anchor, and query_tokens is 0");
}

TEST("spava with every token on the first rank passes nothing on and answers exactly") {
  Cohort cohort("apb-r3-spava");
  const auto n = static_cast<int64_t>(cohort.golden.document.size());
  cohort.golden.layout.blocks = {n, 0, 0};
  const std::vector<uint32_t> alone = cohort.answer();
  cohort.golden.layout.method = Method::Full;
  CHECK(alone == cohort.answer());
}

TEST("spava takes the query from the first rank behind rank 0 that has tokens") {
  Cohort cohort("apb-r3-spava");
  const auto n = static_cast<int64_t>(cohort.golden.document.size());
  cohort.golden.layout.blocks = {n / 2, 0, n - n / 2};
  const std::vector<uint32_t> by_the_last = cohort.answer();
  Cohort two("apb-r3-spava");
  two.golden.layout.ranks = 2;
  two.golden.layout.blocks = {n / 2, n - n / 2};
  two.engines = make_engines(two.golden, connect_threads(2), [] { return make_cpu_backend({}); });
  CHECK(by_the_last == two.answer());
}
