// Every golden case, ranks as threads.
#include <cstdio>

#include "check.h"
#include "golden_case.h"
#include "plain_backend.h"
#include "thread_communicator.h"

using namespace longhaul;
using namespace longhaul::testing;

namespace {

/// A test per case, so that TESTS=apb-r8 picks some.
const bool registered = [] {
  for (const std::string& name : golden_case_names())
    check::registry().push_back({"golden case " + name + " on plain loops", [name] {
      const GoldenCase golden(name);
      auto engines = make_engines(golden, connect_threads(golden.layout.ranks), [] { return std::make_shared<PlainBackend>(); });
      const CaseErrors e = run_case(golden, engines, 1024);
      std::printf("     logits %.1e std, lse %.1e, merged %.1e, hidden %.1e, scores %.1e, norms %.1e\n", e.logits, e.lse, e.merged_lse, e.hidden, e.scores, e.norms);
    }});
  return true;
}();

TEST("all fifteen golden cases are found") { CHECK(golden_case_names().size() == 15); }

}  // namespace
