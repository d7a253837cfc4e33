#include "golden_case.h"

#include <algorithm>
#include <cstring>
#include <filesystem>

#include "engine/files.h"
#include "engine_ranks.h"

namespace longhaul::testing {
namespace {

constexpr const char* kCases = "test/cases/";  // tests run in the repository's root

Json read_json(const std::string& path) { return Json::parse(read_text(path, 1 << 20, "config"), 1 << 20); }

std::vector<int64_t> integers(const Json& list) {
  std::vector<int64_t> out;
  for (const Json& n : *list.array()) out.push_back(*n.integer());
  return out;
}
std::vector<uint32_t> ids(const Json& list) {
  const std::vector<int64_t> numbers = integers(list);
  return {numbers.begin(), numbers.end()};
}
int64_t integer(const Json& json, const std::string& key) { return *json.find(key)->integer(); }

/// Largest difference; infinities must be equal.
double worst(const std::vector<double>& want, const std::vector<float>& got, const std::string& what) {
  if (want.size() != got.size())
    check::fail(__FILE__, __LINE__,
                what + " has " + std::to_string(got.size()) + " values, want " + std::to_string(want.size()));
  double most = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    if (want[i] == got[i]) continue;  // also equal infinities
    const double error = std::abs(want[i] - got[i]);
    if (!(error <= 1e30))
      check::fail(
          __FILE__, __LINE__,
          what + "[" + std::to_string(i) + "] is " + std::to_string(got[i]) + ", want " + std::to_string(want[i]));
    most = std::max(most, error);
  }
  return most;
}

std::vector<double> slice(const std::vector<double>& all, size_t index, size_t size) {
  return {all.begin() + static_cast<std::ptrdiff_t>(index * size),
          all.begin() + static_cast<std::ptrdiff_t>((index + 1) * size)};
}

void compare_selection(const GoldenCase& golden, const Trace& trace, int rank, int layer, size_t heads,
                       CaseErrors& errors) {
  const std::string suffix = std::string(".").append(std::to_string(layer)).append(".").append(std::to_string(rank));
  const std::vector<double> want = golden.values("selected" + suffix), scores = golden.values("scores" + suffix);
  const auto got = trace.selected.find(layer);
  if (got == trace.selected.end()) {
    CHECK(want.empty() && scores.empty());
    return;
  }
  CHECK(got->second.size() == want.size());
  const size_t count = want.size() / heads;
  for (size_t h = 0; h < heads; ++h) {
    std::vector<double> a = slice(want, h, count),
                        b(got->second.begin() + static_cast<std::ptrdiff_t>(h * count),
                          got->second.begin() + static_cast<std::ptrdiff_t>((h + 1) * count));
    std::sort(a.begin(), a.end()), std::sort(b.begin(), b.end());
    if (a != b)
      check::fail(__FILE__, __LINE__, golden.name + ": selected" + suffix + " differs in head " + std::to_string(h));
  }
  errors.scores = std::max(errors.scores, worst(scores, trace.scores.at(layer), golden.name + " scores" + suffix));
}

void compare_traces(const GoldenCase& golden, const std::vector<Trace>& traces, const Config& config,
                    CaseErrors& errors) {
  const auto layers = static_cast<size_t>(config.layers), ranks = traces.size();
  const std::vector<double> lse = golden.values("query_lse"), merged = golden.values("query_merged_lse"),
                            hidden = golden.values("query_hidden"), norms = golden.values("cache_norms");
  const size_t rows = golden.query.size() * static_cast<size_t>(config.heads.query),
               width = static_cast<size_t>(config.hidden);
  const auto raise = [](double& to, double value) { to = std::max(to, value); };
  raise(errors.logits, worst(golden.values("logits"), traces[0].logits, golden.name + " logits") / golden.logit_std);
  for (size_t r = 0; r < ranks; ++r) {
    const Trace& trace = traces[r];
    CHECK(trace.query_lse.size() == layers && trace.query_merged_lse.size() == layers &&
          trace.query_hidden.size() == layers && trace.cache_norms.size() == layers);
    for (size_t i = 0; i < layers; ++i) {
      raise(errors.lse, worst(slice(lse, i * ranks + r, rows), trace.query_lse[i], golden.name + " query_lse"));
      raise(errors.merged_lse,
            worst(slice(merged, i, rows), trace.query_merged_lse[i], golden.name + " query_merged_lse"));
      raise(errors.hidden, worst(slice(hidden, i, width), trace.query_hidden[i], golden.name + " query_hidden"));
      const std::vector<float> found{static_cast<float>(trace.cache_norms[i].first),
                                     static_cast<float>(trace.cache_norms[i].second)};
      raise(errors.norms, worst(slice(norms, i * ranks + r, 2), found, golden.name + " cache_norms"));
      compare_selection(golden, trace, static_cast<int>(r), static_cast<int>(i),
                        static_cast<size_t>(config.heads.key_value), errors);
    }
  }
  CHECK(errors.logits <= 2e-3);
  CHECK(errors.lse <= 2e-3);
  CHECK(errors.merged_lse <= 2e-3);
  CHECK(errors.hidden <= 2e-3);
  CHECK(errors.scores <= 2e-3);
  CHECK(errors.norms <= 2e-3);
}

void compare_layout(const GoldenCase& golden) {
  const Layout layout = plan_layout(golden.layout);
  const Json::Array& blocks = *golden.expected.find("blocks")->array();
  CHECK(blocks.size() == layout.blocks.size());
  for (size_t r = 0; r < blocks.size(); ++r)
    CHECK((integers(blocks[r]) == std::vector<int64_t>{layout.blocks[r].start, layout.blocks[r].end}));
  CHECK(layout.anchor_document == integer(golden.expected, "anchor_doc_tokens"));
  std::vector<uint32_t> anchor(golden.document.begin(), golden.document.begin() + layout.anchor_document);
  if (layout.anchor_length > layout.anchor_document)
    anchor.insert(anchor.begin() + layout.anchor_query_at, golden.in_anchor.begin(), golden.in_anchor.end());
  CHECK(anchor == ids(*golden.expected.find("anchor")));
  CHECK(static_cast<int64_t>(anchor.size()) == layout.anchor_length);
}

}  // namespace

GoldenCase::GoldenCase(const std::string& case_name)
    : name(case_name), tensors(Checkpoint::open_file(std::string(kCases) + case_name + "/expected.safetensors")) {
  const Json json = read_json(std::string(kCases) + name + "/case.json");
  expected = read_json(std::string(kCases) + name + "/expected.json");
  model_directory = std::string(kCases) + name + "/" + *json.find("model")->string();
  document = ids(*json.find("doc"));
  query = ids(*json.find("query"));
  const std::string method = *json.find("method")->string();
  layout.method = method == "full" ? Method::Full : method == "star" ? Method::Star : Method::Apb;
  layout.ranks = static_cast<int>(integer(json, "ranks"));
  layout.document_tokens = static_cast<int64_t>(document.size());
  const Json* anchor_query = json.find("anchor_query");
  in_anchor = anchor_query && *anchor_query->string() == "none" ? std::vector<uint32_t>{} : query;
  layout.query_tokens = static_cast<int64_t>(in_anchor.size());
  layout.anchor_length = json.find("anchor_len")->integer();
  layout.passing_length = integer(json, "passing_len");
  layout.query_position = integer(json, "query_position");
  if (!json.find("blocks")->is_null()) layout.blocks = integers(*json.find("blocks"));
  const std::string selection = *json.find("select")->string();
  select = selection == "random" ? Select::Random : selection == "spava" ? Select::Spava : Select::Heads;
  select_seed = static_cast<uint64_t>(integer(json, "select_seed"));
  decode.query = query;
  decode.max_new_tokens = integer(json, "max_new_tokens");
  decode.eos = ids(*json.find("eos"));
  tokens = ids(*expected.find("tokens"));
  ended = *expected.find("finish")->string() == "eos";
  logit_std = *expected.find("logit_std")->number();
}

std::vector<double> GoldenCase::values(const std::string& tensor) const {
  const TensorView* view = tensors.find(tensor);
  std::vector<double> out;
  for (size_t at = 0; view && at < view->bytes; at += 4) {
    float real = 0;
    int32_t whole = 0;
    std::memcpy(&real, view->data + at, 4), std::memcpy(&whole, view->data + at, 4);
    out.push_back(view->dtype == "I32" ? whole : static_cast<double>(real));
  }
  return out;
}

PrefillRequest GoldenCase::prefill(int rank) const {
  const Layout plan = plan_layout(layout);
  const Layout::Block& block = plan.blocks[static_cast<size_t>(rank)];
  const std::span<const uint32_t> all(document);
  PrefillRequest request;
  request.layout = layout;
  if (rank > 0) request.head = all.first(static_cast<size_t>(plan.anchor_document));
  request.block = all.subspan(static_cast<size_t>(block.start), static_cast<size_t>(block.end - block.start));
  request.query = in_anchor;
  request.select = select;
  request.select_seed = select_seed;
  return request;
}

std::vector<std::string> golden_case_names() {
  std::vector<std::string> names;
  std::error_code missing;  // called before main: the test that counts the cases reports it
  for (const auto& entry : std::filesystem::directory_iterator(kCases, missing))
    if (std::filesystem::exists(entry.path() / "case.json")) names.push_back(entry.path().filename());
  std::sort(names.begin(), names.end());
  return names;
}

std::vector<std::unique_ptr<Engine>> make_engines(const GoldenCase& golden,
                                                  std::vector<std::unique_ptr<Communicator>> communicators,
                                                  const std::function<std::shared_ptr<Backend>()>& backend) {
  std::vector<std::unique_ptr<Engine>> engines;
  for (auto& communicator : communicators)
    engines.push_back(std::make_unique<Engine>(Model::load(golden.model_directory, std::nullopt, backend()),
                                               std::move(communicator)));
  return engines;
}

CaseErrors run_case(const GoldenCase& golden, std::vector<std::unique_ptr<Engine>>& engines, int64_t chunk_rows) {
  compare_layout(golden);
  const size_t ranks = engines.size();
  std::vector<Trace> traces(ranks);
  std::vector<DecodeResult> forced(ranks), greedy(ranks), untraced(ranks), shared(ranks);
  rethrow(run_ranks(static_cast<int>(ranks), [&](int rank) {
    const auto r = static_cast<size_t>(rank);
    Control traced, plain;
    traced.trace = &traces[r];
    PrefillRequest prefill = golden.prefill(rank);
    prefill.chunk_rows = chunk_rows;
    DecodeRequest teacher = golden.decode;
    teacher.teacher = golden.tokens;
    engines[r]->prefill(prefill, traced);
    forced[r] = engines[r]->decode(teacher, traced);
    greedy[r] = engines[r]->decode(golden.decode, plain);
    engines[r]->prefill(prefill, plain);  // without a trace the last layer does less
    untraced[r] = engines[r]->decode(golden.decode, plain);
    DecodeRequest shares = golden.decode;
    shares.mlp = MlpWork::Shared;
    shared[r] = engines[r]->decode(shares, plain);
  }));
  for (size_t r = 0; r < ranks; ++r)
    for (const DecodeResult* result : {&forced[r], &greedy[r], &untraced[r], &shared[r]}) {
      CHECK(result->tokens == golden.tokens);
      CHECK(result->ended == golden.ended);
    }
  CaseErrors errors;
  compare_traces(golden, traces, engines[0]->model().config, errors);
  return errors;
}

}  // namespace longhaul::testing
