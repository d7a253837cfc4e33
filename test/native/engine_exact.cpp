// The exact methods that share a document out, ring and ulysses, against `full` on one rank.
#include "backend_cases.h"
#include "backends/cpu/cpu_backend.h"
#include "check.h"
#include "comm_mesh.h"
#include "engine/exact_attention.h"
#include "engine/rows.h"
#include "engine_files.h"
#include "engine_ranks.h"
#include "golden_case.h"
#include "nccl/ranks.h"
#include "plain_backend.h"
#include "thread_communicator.h"

using namespace longhaul;
using namespace longhaul::testing;

namespace {

using MakeBackend = std::function<std::shared_ptr<Backend>()>;
std::shared_ptr<Backend> on_cpu() { return make_cpu_backend({}); }
std::shared_ptr<Backend> device() { return std::make_shared<PlainBackend>(true); }

struct Way {
  Method method = Method::Full;
  RingLayout ring_layout = RingLayout::Contiguous;
  std::vector<int64_t> blocks = {};
};
const Way kFull{}, kRing{Method::Ring}, kZigzag{Method::Ring, RingLayout::Zigzag}, kUlysses{Method::Ulysses};

/// Ranks of one model, as threads unless given other communicators.
struct Ranks {
  Ranks(const std::string& model, std::vector<std::unique_ptr<Communicator>> communicators, const MakeBackend& backend = on_cpu) {
    for (auto& communicator : communicators)
      engines.push_back(std::make_unique<Engine>(Model::load("test/cases/models/" + model, std::nullopt, backend()),
                                                 std::move(communicator)));
  }
  Ranks(const std::string& model, int ranks) : Ranks(model, connect_threads(ranks)) {}

  std::vector<std::exception_ptr> prefill(const std::vector<uint32_t>& document, const Way& way, int64_t chunk,
                                          const std::function<void(int, Control&)>& change = {}) {
    traces.assign(engines.size(), {});
    return run_ranks(static_cast<int>(engines.size()), [&](int rank) {
      const auto r = static_cast<size_t>(rank);
      PrefillRequest request;
      request.layout.method = way.method;
      request.layout.ring_layout = way.ring_layout;
      request.layout.blocks = way.blocks;
      request.layout.ranks = static_cast<int>(engines.size());
      request.layout.document_tokens = static_cast<int64_t>(document.size());
      request.chunk_rows = chunk;
      const Layout layout = plan_layout(request.layout);
      std::vector<uint32_t> own;
      for (const Layout::Block& piece : {layout.blocks[r], layout.mirrors[r]})
        own.insert(own.end(), document.begin() + piece.start, document.begin() + piece.end);
      request.block = own;
      Control control;
      control.trace = &traces[r];
      if (change) change(rank, control);
      engines[r]->prefill(request, control);
    });
  }

  /// Logits [steps, V] of the answer to a fixed question, which all ranks give.
  std::vector<float> answer(const std::vector<uint32_t>& document, const Way& way, int64_t chunk) {
    rethrow(prefill(document, way, chunk));
    const std::vector<uint32_t> query{3, 1, 4, 1, 5};
    std::vector<DecodeResult> results(engines.size());
    rethrow(run_ranks(static_cast<int>(engines.size()), [&](int rank) {
      const auto r = static_cast<size_t>(rank);
      DecodeRequest question;
      question.query = query;
      question.max_new_tokens = 3;
      question.teacher = {9, 2, 6};
      Control control;
      control.trace = &traces[r];
      results[r] = engines[r]->decode(question, control);
    }));
    for (const Trace& trace : traces) CHECK(trace.query_merged_lse == traces[0].query_merged_lse);
    return traces[0].logits;
  }

  std::vector<std::unique_ptr<Engine>> engines;
  std::vector<Trace> traces;
};

std::vector<uint32_t> document_of(size_t tokens) {
  std::vector<uint32_t> document(tokens);
  for (size_t i = 0; i < tokens; ++i) document[i] = static_cast<uint32_t>((i * i * 31 + i * 7 + 11) % 280);
  return document;
}

void same(const std::vector<float>& want, const std::vector<float>& got, const std::string& what) {
  CHECK(want.size() == got.size() && !want.empty());
  for (size_t i = 0; i < want.size(); ++i)
    if (!(std::abs(want[i] - got[i]) <= 2e-4f))
      check::fail(__FILE__, __LINE__, what + ": logit " + std::to_string(i) + " is " + std::to_string(got[i]) +
                                          ", want " + std::to_string(want[i]));
}

}  // namespace

TEST("ring, zigzag and ulysses answer as full on one rank: 1 to 5 ranks, odd lengths, empty blocks, small chunks") {
  Ranks alone("llama-d32", 1);
  for (const size_t tokens : {0, 1, 3, 9, 64, 147}) {
    const std::vector<uint32_t> document = document_of(tokens);
    const std::vector<float> want = alone.answer(document, kFull, 1024);
    for (int ranks = 1; ranks <= 5; ++ranks) {
      Ranks cohort("llama-d32", ranks);  // 4 query heads, 2 KV heads
      const std::string what = std::to_string(tokens) + " tokens on " + std::to_string(ranks) + " ranks, ";
      for (const int64_t chunk : {7, 1024}) {
        same(want, cohort.answer(document, kRing, chunk), what + "ring");
        same(want, cohort.answer(document, kZigzag, chunk), what + "zigzag");
        if (4 % ranks == 0) same(want, cohort.answer(document, kUlysses, chunk), what + "ulysses");
      }
    }
  }
}

TEST("ring and ulysses take uneven and empty blocks") {
  const std::vector<uint32_t> document = document_of(101);
  const std::vector<float> want = Ranks("llama-d32", 1).answer(document, kFull, 1024);
  Ranks cohort("llama-d32", 4);
  for (const std::vector<int64_t>& blocks :
       {std::vector<int64_t>{50, 1, 0, 50}, std::vector<int64_t>{0, 0, 101, 0}, std::vector<int64_t>{3, 60, 20, 18}}) {
    same(want, cohort.answer(document, {Method::Ring, RingLayout::Contiguous, blocks}, 16), "ring");
    same(want, cohort.answer(document, {Method::Ulysses, RingLayout::Contiguous, blocks}, 16), "ulysses");
  }
}

TEST("ring and ulysses alone equal attention over the whole, also where query heads straddle KV heads") {
  for (const auto& [heads, ranks] : {std::pair<Heads, int>{{6, 2, 8}, 3}, {{6, 2, 8}, 6}, {{12, 4, 4}, 6}, {{3, 1, 8}, 3}, {{4, 4, 8}, 2}}) {
    const int64_t wide = heads.query * heads.dimension, narrow = heads.key_value * heads.dimension;
    LayoutRequest request;
    request.method = Method::Ulysses;
    request.ranks = ranks;
    request.document_tokens = 41;
    const Layout layout = plan_layout(request);
    const auto whole = on_cpu();
    cases::Random random(static_cast<uint64_t>(ranks));
    cases::Rows q(random, 41, wide, 1.f, 0), keys(random, 41, narrow, 1.f, 0), values(random, 41, narrow, 1.f, 0), want(41, wide, 0);
    const Segment all{{keys.view(), values.view()}, true};
    whole->attention(q.view(), {&all, 1}, heads, want.view(), nullptr);
    auto communicators = connect_threads(ranks);
    for (const auto& make : {make_ring, make_ulysses})
      rethrow(run_ranks(ranks, [&](int rank) {
        const auto backend = on_cpu();
        Exchange exchange(*communicators[static_cast<size_t>(rank)], *backend, std::chrono::seconds(30));
        const Layout::Block& block = layout.blocks[static_cast<size_t>(rank)];
        const auto own = [&](cases::Rows& rows) { return rows_of(*backend, rows.view(), block.start, block.end - block.start); };
        const auto exact = make(*backend, exchange, heads, layout, 4);
        const Matrix out = exact->attend(own(q), {own(keys), own(values)});
        for (int64_t i = 0; i < out.rows; ++i)
          for (int64_t c = 0; c < wide; ++c)
            CHECK_NEAR(static_cast<const float*>(out.data)[i * out.stride + c], want.at(block.start + i, c), 1e-5);
      }));
  }
}

TEST("zigzag gives every rank the same causal work") {
  LayoutRequest request;
  request.method = Method::Ring;
  request.ring_layout = RingLayout::Zigzag;
  request.ranks = 4;
  request.document_tokens = 800;
  const Layout layout = plan_layout(request);
  for (size_t r = 0; r < 4; ++r) {
    int64_t pairs = 0;
    for (const Layout::Block& piece : {layout.blocks[r], layout.mirrors[r]})
      for (int64_t i = piece.start; i < piece.end; ++i) pairs += i + 1;
    CHECK(pairs == 800 * 801 / 2 / 4);
  }
}

TEST("ring and ulysses over tcp, and with device memory staged through the host") {
  const std::vector<uint32_t> document = document_of(97);
  const std::vector<float> want = Ranks("llama-d32", 1).answer(document, kFull, 1024);
  for (const MakeBackend& backend : {MakeBackend(on_cpu), MakeBackend(device)}) {
    comm_test::Listeners listeners(4);
    std::vector<std::unique_ptr<Communicator>> communicators(4);
    comm_test::on_threads(4, [&](int r) { communicators[static_cast<size_t>(r)] = listeners.connect(r); });
    Ranks cohort("llama-d32", std::move(communicators), backend);
    for (const Way& way : {kRing, kZigzag, kUlysses}) same(want, cohort.answer(document, way, 16), "tcp");
  }
}

TEST("ring and ulysses by nccl, from device memory") {
  const std::vector<uint32_t> document = document_of(97);
  const std::vector<float> want = Ranks("llama-d32", 1).answer(document, kFull, 1024);
  Ranks cohort("llama-d32", connect_doubles(4), device);
  for (const Way& way : {kRing, kZigzag, kUlysses}) same(want, cohort.answer(document, way, 16), "nccl");
}

TEST("ranks that do not divide the query heads are refused by ulysses on every rank, and the cohort works on") {
  Ranks cohort("llama-d32", 3);
  for (const auto& error : cohort.prefill(document_of(30), kUlysses, 1024))
    CHECK_CONTAINS(error_text(error), "unsupported: method ulysses gives every rank as many query heads, and 3 ranks do "
                                      "not divide the model's 4; use a number of ranks that does, or method ring");
  rethrow(cohort.prefill(document_of(30), kRing, 1024));
}

TEST("zigzag is refused with other methods and with blocks") {
  LayoutRequest request;
  request.ring_layout = RingLayout::Zigzag;
  request.ranks = 2;
  request.document_tokens = 4;
  CHECK_CONTAINS(CHECK_THROWS(EngineError, "invalid_argument", plan_layout(request)), "zigzag; it belongs to method ring");
  request.method = Method::Ring;
  request.blocks = {1, 3};
  CHECK_CONTAINS(CHECK_THROWS(EngineError, "invalid_argument", plan_layout(request)), "leave blocks out");
}

TEST("a rank that fails in a ring tells its peers at once, also while a rotation is on its way") {
  struct Failing : PlainBackend {
    void attention(const Matrix& q, std::span<const Segment> segments, const Heads& heads, const Matrix& out,
                   float* lse) override {
      if (++calls == 2) throw std::runtime_error("broken");
      PlainBackend::attention(q, segments, heads, out, lse);
    }
    int calls = 0;
  };
  Ranks cohort("llama-d32", connect_threads(3), [] { return std::make_shared<Failing>(); });
  for (const auto& error : cohort.prefill(document_of(30), kRing, 1024, [](int, Control& control) {
         control.collective_timeout = std::chrono::seconds(20);
       })) {
    const std::string text = error_text(error);
    CHECK(contains(text, "broken") || contains(text, "peer_lost: ") || contains(text, "aborted: "));
  }
}

TEST("a stop in a ring stops all ranks at the same layer, and the cohort works on") {
  Ranks cohort("llama-d32", 3);
  for (const auto& error : cohort.prefill(document_of(50), kZigzag, 1024, [](int rank, Control& control) {
         control.progress = [rank, &control](const Progress& progress) { control.stop = rank == 0 && progress.done == 1; };
       }))
    CHECK_CONTAINS(error_text(error), "stopped: ");
  rethrow(cohort.prefill(document_of(50), kZigzag, 1024));
}

TEST("abort from another thread ends a ring on every rank") {
  Ranks cohort("llama-d32", 3);
  const auto errors = cohort.prefill(document_of(90), kZigzag, 1024, [&](int rank, Control& control) {
    if (rank == 1)
      control.progress = [&](const Progress& progress) {
        if (progress.done == 1) std::thread([&] { cohort.engines[1]->communicator().abort(); }).join();
      };
  });
  CHECK_CONTAINS(error_text(errors[1]), "aborted: ");
  CHECK_CONTAINS(error_text(errors[0]), "peer_lost: ");
  CHECK_CONTAINS(error_text(errors[2]), "peer_lost: ");
}
