// How much memory a rank needs beside weights and cache.
#include "backends/cpu/cpu_backend.h"
#include "check.h"
#include "comm/tcp.h"
#include "engine/engine.h"
#include "engine/memory_agreement.h"
#include "engine/model.h"
#include "engine_files.h"
#include "engine_ranks.h"
#include "golden_case.h"
#include "plain_backend.h"
#include "thread_communicator.h"

using namespace longhaul;
using namespace longhaul::testing;

namespace {

/// Counts the bytes that are allocated and not yet freed. Weights are loaded, not allocated.
struct CountingBackend : PlainBackend {
  BufferPtr allocate(size_t bytes) override {
    BufferPtr inner = PlainBackend::allocate(bytes);
    live += bytes;
    peak = std::max(peak, live);
    return {inner.get(), [this, inner, bytes](Buffer*) { live -= bytes; }};
  }
  bool whole_attention() const override { return whole; }
  bool whole = false;  // as a device: attention of all rows at once, over its queries
  size_t live = 0, peak = 0;
};

}  // namespace

TEST("activations take at most 3 x tokens x hidden elements, and decoding leaves the cache as it was") {
  auto backend = std::make_shared<CountingBackend>();
  Engine engine(Model::load("test/cases/models/llama-d32", std::nullopt, backend), make_solo());
  const Config& config = engine.model().config;
  std::vector<uint32_t> document(600);
  for (size_t i = 0; i < document.size(); ++i) document[i] = static_cast<uint32_t>(i * 7 % 288);

  Control control;
  PrefillRequest request;
  request.layout.document_tokens = static_cast<int64_t>(document.size());
  request.block = document;
  request.chunk_rows = 16;
  engine.prefill(request, control);
  const size_t cache = 2 * static_cast<size_t>(config.layers * config.heads.key_value * config.heads.dimension) *
                       document.size() * sizeof(float);
  CHECK(backend->live == cache);
  CHECK(backend->peak - cache <= 3 * document.size() * static_cast<size_t>(config.hidden) * sizeof(float));

  DecodeRequest question;
  const std::vector<uint32_t> query{1, 2, 3};
  question.query = query;
  question.max_new_tokens = 4;
  engine.decode(question, control);
  CHECK(backend->live == cache);
  engine.release();
  CHECK(backend->live == 0);
}

TEST("a device's prefill chooses its chunk: at most 3 x tokens x hidden elements, and the same answer") {
  std::vector<uint32_t> document(1100);
  for (size_t i = 0; i < document.size(); ++i) document[i] = static_cast<uint32_t>(i * 7 % 288);
  const std::vector<uint32_t> query{1, 2, 3};
  std::vector<std::vector<uint32_t>> answers;
  for (const bool whole : {false, true}) {
    auto backend = std::make_shared<CountingBackend>();
    backend->whole = whole;
    Engine engine(Model::load("test/cases/models/llama-d32", std::nullopt, backend), make_solo());
    Control control;
    PrefillRequest request;
    request.layout.document_tokens = static_cast<int64_t>(document.size());
    request.block = document;
    engine.prefill(request, control);
    const size_t activations = backend->peak - backend->live;
    if (whole) CHECK(activations <= 3 * document.size() * static_cast<size_t>(engine.model().config.hidden) * sizeof(float));
    DecodeRequest question;
    question.query = query;
    question.max_new_tokens = 8;
    answers.push_back(engine.decode(question, control).tokens);
  }
  CHECK(answers[0] == answers[1]);
}

TEST("what a prefill allocates is what is reckoned beforehand, of every method and rank") {
  for (const std::string name : {"full-r1", "full-r4", "star-r4-uneven", "apb-r3-random", "apb-r3-spava",
                                 "apb-r4-small-first-block", "apb-r8-empty-blocks"})
    for (const Method method : {Method::Full, Method::Ring, Method::Ulysses, Method::Apb}) {
      const GoldenCase golden(name);
      const int ranks = golden.layout.ranks;
      if (method != Method::Apb && name != "full-r4") continue;  // the exact ones of one case, every case its own way
      std::vector<std::shared_ptr<CountingBackend>> backends;
      const auto engines = make_engines(golden, connect_threads(ranks), [&] {
        return backends.emplace_back(std::make_shared<CountingBackend>());
      });
      rethrow(run_ranks(ranks, [&](int rank) {
        const auto r = static_cast<size_t>(rank);
        PrefillRequest request = golden.prefill(rank);
        if (method != Method::Apb) request.layout.method = method;
        Control control;
        const size_t before = backends[r]->live;
        engines[r]->prefill(request, control);
        CHECK(backends[r]->peak - before ==
              prefill_bytes(engines[r]->model(), request, plan_layout(request.layout), r));
      }));
    }
}

TEST("a document without room on one rank is refused by all, with the longest that fits, and the communicator lives") {
  const GoldenCase golden("apb-r4-long");
  const int ranks = golden.layout.ranks;
  int made = 0;
  // One byte too little on the rank that needs most.
  size_t needed = 0;
  {
    const auto engines = make_engines(golden, connect_threads(ranks), [] { return make_cpu_backend({}); });
    const PrefillRequest request = golden.prefill(1);
    for (size_t r = 0; r < engines.size(); ++r)
      needed = std::max(needed, prefill_bytes(engines[1]->model(), request, plan_layout(request.layout), r));
  }
  const auto engines = make_engines(golden, connect_threads(ranks), [&] {
    CpuOptions options;
    options.document_memory = needed - (made++ == 1 ? 1 : 0);
    return make_cpu_backend(options);
  });
  const std::string tokens = std::to_string(golden.layout.document_tokens);
  std::string said;
  for (const auto& error : run_ranks(ranks, [&](int rank) {
         Control control;
         engines[static_cast<size_t>(rank)]->prefill(golden.prefill(rank), control);
       })) {
    const std::string text = error_text(error);
    CHECK_CONTAINS(text, "too_long_for_memory: the document has " + tokens + " tokens, and the longest that fits");
    CHECK_CONTAINS(text, "rank 1 needs " + std::to_string(needed) + " bytes and has " + std::to_string(needed - 1));
    CHECK(said.empty() || said == text);
    said = text;
  }
  const int64_t longest = std::stoll(said.substr(said.find("this way has ") + 13));
  CHECK(longest > 0);
  CHECK(longest < golden.layout.document_tokens);

  // What it names fits, one token more does not, and the same engines run it.
  std::vector<uint32_t> document(static_cast<size_t>(golden.layout.document_tokens), 7);
  for (const int64_t length : {longest + 1, longest}) {
    const auto errors = run_ranks(ranks, [&](int rank) {
      PrefillRequest request = golden.prefill(rank);
      request.layout.blocks.clear();
      request.layout.document_tokens = length;
      const Layout layout = plan_layout(request.layout);
      const Layout::Block& block = layout.blocks[static_cast<size_t>(rank)];
      request.block = std::span(document).subspan(static_cast<size_t>(block.start), static_cast<size_t>(block.end - block.start));
      if (rank > 0) request.head = std::span(document).first(static_cast<size_t>(layout.anchor_document));
      Control control;
      engines[static_cast<size_t>(rank)]->prefill(request, control);
    });
    if (length == longest) rethrow(errors);
    else CHECK_CONTAINS(error_text(errors[0]), "too_long_for_memory");
  }
}
