// Every golden case on the CPU backend with ranks as threads; some on plain loops, in small
// chunks, through staging, and over TCP.
#include <cstdio>

#include "backends/cpu/cpu_backend.h"
#include "check.h"
#include "comm_mesh.h"
#include "golden_case.h"
#include "plain_backend.h"
#include "thread_communicator.h"

using namespace longhaul;
using namespace longhaul::testing;

namespace {

using MakeBackend = std::function<std::shared_ptr<Backend>()>;
constexpr int64_t kWhole = 1024;  // rows per chunk: all of a case's

std::shared_ptr<Backend> cpu() { return make_cpu_backend({}); }
std::shared_ptr<Backend> plain() { return std::make_shared<PlainBackend>(); }
std::shared_ptr<Backend> device() { return std::make_shared<PlainBackend>(true); }

void run(const std::string& name, const MakeBackend& backend, int64_t chunk_rows) {
  const GoldenCase golden(name);
  auto engines = make_engines(golden, connect_threads(golden.layout.ranks), backend);
  const CaseErrors e = run_case(golden, engines, chunk_rows);
  std::printf("     logits %.1e std, lse %.1e, merged %.1e, hidden %.1e, scores %.1e, norms %.1e\n", e.logits, e.lse,
              e.merged_lse, e.hidden, e.scores, e.norms);
}

void add(const std::string& name, const std::string& how, const MakeBackend& backend, int64_t chunk_rows) {
  check::registry().push_back({"golden case " + name + " " + how, [=] { run(name, backend, chunk_rows); }});
}

/// A test per case, so that TESTS=apb-r8 picks some.
const bool registered = [] {
  for (const std::string& name : golden_case_names()) add(name, "on the cpu backend", cpu, kWhole);
  for (const char* name : {"apb-r8", "apb-r4-uneven", "apb-r4-spava", "star-r4-uneven"})
    add(name, "on plain loops", plain, kWhole);
  for (const char* name : {"apb-r2-eos", "apb-r3-no-query", "apb-r3-spava", "apb-r4-small-first-block", "star-r3-default-anchor", "full-r4"})
    add(name, "in chunks of 7 rows", cpu, 7);
  for (const char* name : {"apb-r3-random", "apb-r3-spava", "full-r4"})
    add(name, "with device memory staged through the host", device, 50);
  return true;
}();

TEST("all eighteen golden cases are found") { CHECK(golden_case_names().size() == 18); }

TEST("golden case apb-r4-uneven over tcp") {
  const GoldenCase golden("apb-r4-uneven");
  comm_test::Listeners listeners(golden.layout.ranks);
  std::vector<std::unique_ptr<Communicator>> communicators(static_cast<size_t>(golden.layout.ranks));
  comm_test::on_threads(golden.layout.ranks,
                        [&](int r) { communicators[static_cast<size_t>(r)] = listeners.connect(r); });
  auto engines = make_engines(golden, std::move(communicators), cpu);
  run_case(golden, engines, kWhole);
}

TEST("golden case full-r1 alone, with the solo communicator") {
  const GoldenCase golden("full-r1");
  std::vector<std::unique_ptr<Communicator>> solo;
  solo.push_back(make_solo());
  auto engines = make_engines(golden, std::move(solo), cpu);
  run_case(golden, engines, kWhole);
}

}  // namespace
