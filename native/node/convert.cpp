#include "convert.h"

#include <algorithm>
#include <limits>

namespace longhaul::node {
namespace {

Method method(const std::string& name) {
  if (name == "full") return Method::Full;
  if (name == "star") return Method::Star;
  if (name == "apb") return Method::Apb;
  if (name == "ring") return Method::Ring;
  if (name == "ulysses") return Method::Ulysses;
  throw EngineError("invalid_argument", "method is '" + name + "'; give full, ring, ulysses, star or apb");
}

RingLayout ring_layout(const std::string& name) {
  if (name == "contiguous") return RingLayout::Contiguous;
  if (name == "zigzag") return RingLayout::Zigzag;
  throw EngineError("invalid_argument", "ringLayout is '" + name + "'; give contiguous or zigzag");
}

Select select(const std::string& name) {
  if (name == "heads") return Select::Heads;
  if (name == "spava") return Select::Spava;
  if (name == "random") return Select::Random;
  throw EngineError("invalid_argument", "select is '" + name + "'; give heads, spava or random");
}

CommChoice comm_choice(const std::string& name) {
  if (name == "tcp") return CommChoice::Tcp;
  if (name == "nccl") return CommChoice::Nccl;
  if (name == "auto") return CommChoice::Auto;
  throw EngineError("invalid_argument", "comm is '" + name + "'; give tcp, nccl or auto");
}

std::chrono::milliseconds milliseconds(const Fields& fields, const char* name) {
  const int64_t value = fields.integer(name);
  constexpr int64_t kYear = 365LL * 24 * 3600 * 1000;  // more would overflow the clock
  if (value < 0) throw EngineError("invalid_argument", std::string(name) + " is " + std::to_string(value) + "; it cannot be negative");
  return std::chrono::milliseconds(std::min(value, kYear));
}

Napi::Number number(Napi::Env env, double value) { return Napi::Number::New(env, value); }
Napi::Number number(Napi::Env env, int64_t value) { return Napi::Number::New(env, static_cast<double>(value)); }

template <class Array, class T>
Array typed(Napi::Env env, const std::vector<T>& values) {
  Array array = Array::New(env, values.size());
  std::copy(values.begin(), values.end(), array.Data());
  return array;
}

template <class T>
Napi::Array list(Napi::Env env, const std::vector<T>& items, const std::function<Napi::Value(const T&)>& convert) {
  Napi::Array array = Napi::Array::New(env, items.size());
  for (size_t i = 0; i < items.size(); ++i) array.Set(static_cast<uint32_t>(i), convert(items[i]));
  return array;
}

Napi::Array strings(Napi::Env env, const std::vector<std::string>& items) {
  return list<std::string>(env, items, [&](const std::string& item) { return Napi::String::New(env, item); });
}

Napi::Array floats(Napi::Env env, const std::vector<std::vector<float>>& layers) {
  return list<std::vector<float>>(env, layers, [&](const auto& values) { return typed<Napi::Float32Array>(env, values); });
}

/// layer -> values, as an array of [layer, values].
template <class Array, class T>
Napi::Array entries(Napi::Env env, const std::map<int, std::vector<T>>& layers) {
  Napi::Array array = Napi::Array::New(env);
  for (const auto& [layer, values] : layers) {
    Napi::Array entry = Napi::Array::New(env, 2);
    entry.Set(0u, number(env, int64_t{layer}));
    entry.Set(1u, typed<Array>(env, values));
    array.Set(array.Length(), entry);
  }
  return array;
}

}  // namespace

LayoutRequest layout_request(const Fields& fields) {
  LayoutRequest request;
  request.method = method(fields.text("method"));
  request.ranks = static_cast<int>(std::clamp<int64_t>(fields.integer("ranks"), -1, std::numeric_limits<int>::max()));
  request.document_tokens = fields.integer("documentTokens");
  request.query_tokens = fields.integer("queryTokens");
  if (fields.has("anchorLength")) request.anchor_length = fields.integer("anchorLength");
  request.passing_length = fields.integer("passingLength");
  request.query_position = fields.integer("queryPosition", request.query_position);
  request.blocks = fields.integers("blocks");
  request.ring_layout = ring_layout(fields.text("ringLayout", "contiguous"));
  return request;
}

CudaOptions cuda_options(const Fields& fields) {
  const int64_t device = fields.integer("gpu", 0);
  if (device < 0) throw EngineError("invalid_argument", "gpu is " + std::to_string(device) + "; it cannot be negative");
  return {fields.text("cudaLibrary", ""), {device, fields.text("cublasLt", "")}, fields.text("nccl", "")};
}

LoadOptions load_options(const Fields& fields) {
  LoadOptions options;
  options.model_directory = fields.text("modelDir");
  if (fields.has("headsFile")) options.heads_file = fields.text("headsFile");
  options.backend = {fields.text("backend"), fields.integer("threads"), fields.text("isa", "auto"), cuda_options(fields),
                     fields.text("precision", "float32"), fields.integer("documentMemory", 0)};
  return options;
}

ConnectOptions connect_options(const Fields& fields) {
  return {fields.integer("rank"), fields.texts("peers"), fields.text("secret"), milliseconds(fields, "deadlineMs"),
          {comm_choice(fields.text("comm", "tcp")), fields.text("nccl", "")}};
}

PrefillOptions prefill_options(const Fields& fields) {
  PrefillOptions options;
  options.request.layout = layout_request(fields.object("layout"));
  options.head = fields.tokens("head");
  options.block = fields.tokens("block");
  options.query = fields.tokens("query");
  options.request.select = select(fields.text("select", "heads"));
  options.request.select_seed = fields.seed("selectSeed");
  options.request.chunk_rows = fields.integer("chunkRows", options.request.chunk_rows);
  options.trace = fields.boolean("trace");
  options.phases = fields.boolean("phases");
  return options;
}

DecodeOptions decode_options(const Fields& fields) {
  DecodeOptions options;
  options.query = fields.tokens("query");
  options.request.max_new_tokens = fields.integer("maxNewTokens");
  options.request.temperature = fields.number("temperature", 0);
  options.request.seed = fields.seed("seed");
  for (const int64_t token : fields.integers("eos")) {
    if (token < 0 || token > std::numeric_limits<uint32_t>::max()) {
      throw EngineError("invalid_argument", "decode: eos holds " + std::to_string(token) + ", which is not a token id");
    }
    options.request.eos.push_back(static_cast<uint32_t>(token));
  }
  options.request.teacher = fields.tokens("teacher");
  return options;
}

void set_control(const Fields& fields, Control& control) {
  if (fields.has("collectiveTimeoutMs")) control.collective_timeout = milliseconds(fields, "collectiveTimeoutMs");
}

Napi::Value to_js(Napi::Env env, const Layout& layout) {
  Napi::Object object = Napi::Object::New(env);
  const std::function<Napi::Value(const Layout::Block&)> range = [&](const Layout::Block& block) {
    Napi::Object ends = Napi::Object::New(env);
    ends.Set("start", number(env, block.start));
    ends.Set("end", number(env, block.end));
    return ends;
  };
  object.Set("blocks", list(env, layout.blocks, range));
  object.Set("mirrors", list(env, layout.mirrors, range));
  object.Set("anchorDocument", number(env, layout.anchor_document));
  object.Set("anchorQueryAt", number(env, layout.anchor_query_at));
  object.Set("anchorLength", number(env, layout.anchor_length));
  object.Set("passing", list<int64_t>(env, layout.passing, [&](int64_t rows) { return number(env, rows); }));
  return object;
}

Napi::Value to_js(Napi::Env env, const Capabilities& capabilities) {
  Napi::Object cuda = Napi::Object::New(env);
  cuda.Set("available", Napi::Boolean::New(env, capabilities.cuda.missing.empty()));
  cuda.Set("description", Napi::String::New(env, capabilities.cuda.description));
  cuda.Set("cublasLt", Napi::String::New(env, capabilities.cuda.cublas_lt));
  cuda.Set("missing", strings(env, capabilities.cuda.missing));
  Napi::Object nccl = Napi::Object::New(env);
  nccl.Set("available", Napi::Boolean::New(env, capabilities.cuda.missing.empty() && capabilities.cuda.nccl_missing.empty()));
  nccl.Set("source", Napi::String::New(env, capabilities.cuda.nccl));
  nccl.Set("missing", Napi::String::New(env, capabilities.cuda.nccl_missing));
  Napi::Object object = Napi::Object::New(env);
  object.Set("backends", strings(env, capabilities.backends));
  object.Set("isa", Napi::String::New(env, capabilities.isa));
  object.Set("threads", number(env, int64_t{capabilities.threads}));
  object.Set("cuda", cuda);
  object.Set("nccl", nccl);
  return object;
}

Napi::Value to_js(Napi::Env env, const Model& model) {
  const Config& config = model.config;
  Napi::Object heads = Napi::Object::New(env);
  heads.Set("query", number(env, config.heads.query));
  heads.Set("keyValue", number(env, config.heads.key_value));
  heads.Set("dimension", number(env, config.heads.dimension));
  Napi::Object object = Napi::Object::New(env);
  object.Set("architecture", Napi::String::New(env, config.architecture));
  object.Set("layers", number(env, config.layers));
  object.Set("hidden", number(env, config.hidden));
  object.Set("vocabulary", number(env, config.vocabulary));
  object.Set("maxPositions", number(env, config.max_positions));
  object.Set("heads", heads);
  object.Set("hasRetainingHeads", Napi::Boolean::New(env, model.has_retaining_heads));
  object.Set("backend", Napi::String::New(env, model.backend->description()));
  return object;
}

Napi::Value to_js(Napi::Env env, const Rates& rates) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("rowSeconds", number(env, rates.row_seconds));
  object.Set("pairSeconds", number(env, rates.pair_seconds));
  return object;
}

Napi::Value to_js(Napi::Env env, const DecodeResult& result) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("tokens", typed<Napi::Uint32Array>(env, result.tokens));
  object.Set("finish", Napi::String::New(env, result.ended ? "eos" : "length"));
  return object;
}

Napi::Value to_js(Napi::Env env, const Prefilled& prefilled) {
  const auto object = Napi::Object::New(env);
  const auto passed = Napi::Object::New(env);
  passed.Set("sent", number(env, static_cast<double>(prefilled.passed.sent)));
  passed.Set("received", number(env, static_cast<double>(prefilled.passed.received)));
  object.Set("passedBytes", passed);
  if (!prefilled.phases) return object;
  const auto phases = Napi::Object::New(env);
  for (size_t i = 0; i < prefilled.phases->size(); ++i) phases.Set(kPhaseNames[i], (*prefilled.phases)[i]);
  object.Set("phases", phases);
  return object;
}

Napi::Value to_js(Napi::Env env, const Trace& trace) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("logits", typed<Napi::Float32Array>(env, trace.logits));
  object.Set("selected", entries<Napi::Int32Array>(env, trace.selected));
  object.Set("scores", entries<Napi::Float32Array>(env, trace.scores));
  object.Set("queryLse", floats(env, trace.query_lse));
  object.Set("queryMergedLse", floats(env, trace.query_merged_lse));
  object.Set("queryHidden", floats(env, trace.query_hidden));
  object.Set("cacheNorms", list<std::pair<double, double>>(env, trace.cache_norms, [&](const auto& norms) {
               Napi::Array pair = Napi::Array::New(env, 2);
               pair.Set(0u, number(env, norms.first));
               pair.Set(1u, number(env, norms.second));
               return pair;
             }));
  return object;
}

Napi::Value to_js(Napi::Env env, const Progress& progress) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("phase", Napi::String::New(env, progress.phase == Progress::Phase::Prefill ? "prefill" : "decode"));
  object.Set("done", number(env, progress.done));
  object.Set("total", number(env, progress.total));
  return object;
}

}  // namespace longhaul::node
