// Answers longer than the pieces of the tail, and documents without a token.
#include "backends/cpu/cpu_backend.h"
#include "check.h"
#include "engine/engine.h"
#include "engine/model.h"
#include "engine_ranks.h"
#include "thread_communicator.h"

using namespace longhaul;
using namespace longhaul::testing;

namespace {

/// Exact attention over `ranks`; the logits of the last of `teacher`'s steps after `query`.
std::vector<float> last_logits(int ranks, const std::vector<uint32_t>& document, const std::vector<uint32_t>& query,
                               const std::vector<uint32_t>& teacher) {
  auto communicators = connect_threads(ranks);
  std::vector<float> logits;
  rethrow(run_ranks(ranks, [&](int rank) {
    auto model = Model::load("test/cases/models/llama-d32", std::nullopt, make_cpu_backend({}));
    Engine engine(model, std::move(communicators[static_cast<size_t>(rank)]));
    Control control;
    Trace trace;
    PrefillRequest request;
    request.layout.ranks = ranks;
    request.layout.document_tokens = static_cast<int64_t>(document.size());
    const Layout::Block block = plan_layout(request.layout).blocks[static_cast<size_t>(rank)];
    request.block = std::span(document).subspan(static_cast<size_t>(block.start), static_cast<size_t>(block.end - block.start));
    engine.prefill(request, control);
    control.trace = &trace;
    DecodeRequest question;
    question.query = query;
    question.teacher = teacher;
    question.max_new_tokens = static_cast<int64_t>(teacher.size());
    engine.decode(question, control);
    if (rank == 0) logits.assign(trace.logits.end() - model->config.vocabulary, trace.logits.end());
  }));
  return logits;
}

std::vector<uint32_t> numbers(uint32_t count, uint32_t step) {
  std::vector<uint32_t> out;
  for (uint32_t i = 0; i < count; ++i) out.push_back(i * step % 288);
  return out;
}

void check_equal(const std::vector<float>& a, const std::vector<float>& b) {
  CHECK(a.size() == 288 && b.size() == 288);
  for (size_t i = 0; i < a.size(); ++i) CHECK_NEAR(a[i], b[i], 1e-3);
}

}  // namespace

TEST("token by token over two tail pieces equals the same tokens at once") {
  const std::vector<uint32_t> document = numbers(50, 7), query = numbers(9, 31), answer = numbers(300, 13);
  std::vector<uint32_t> at_once = query;
  at_once.insert(at_once.end(), answer.begin(), answer.end() - 1);
  for (const int ranks : {1, 2})
    check_equal(last_logits(ranks, document, query, answer), last_logits(ranks, document, at_once, {answer.back()}));
}

TEST("a question longer than a chunk equals the same tokens as document and question") {
  const std::vector<uint32_t> all = numbers(1500, 7);
  const std::vector<uint32_t> document(all.begin(), all.begin() + 300), rest(all.begin() + 300, all.end());
  const std::vector<uint32_t> most(all.begin(), all.end() - 5), end(all.end() - 5, all.end());
  check_equal(last_logits(2, document, rest, {1}), last_logits(3, most, end, {1}));
}

TEST("a document without a token is answered from the question alone") {
  const std::vector<uint32_t> query = numbers(20, 31);
  const std::vector<float> alone = last_logits(1, {}, query, {1});
  check_equal(alone, last_logits(3, {}, query, {1}));
  check_equal(alone, last_logits(2, {query[0]}, {query.begin() + 1, query.end()}, {1}));
}
