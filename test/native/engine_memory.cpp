// How much memory a rank needs beside weights and cache.
#include "check.h"
#include "comm/tcp.h"
#include "engine/engine.h"
#include "engine/model.h"
#include "plain_backend.h"

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
