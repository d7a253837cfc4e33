#include "config.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "errors.h"
#include "files.h"
#include "json.h"

namespace longhaul {
namespace {

constexpr size_t kMaxBytes = 1 << 20;
constexpr int64_t kMaxSize = 1 << 30;  // of any dimension: products of two stay far from overflow

/// Fields of one object of config.json, with errors that name file, field and value.
class Fields {
 public:
  Fields(const Json& object, const std::string& path, const std::string& prefix = "")
      : object_(object), path_(path), prefix_(prefix) {}

  /// The field, or null when it is absent or JSON null.
  const Json* find(const std::string& name) const {
    const Json* value = object_.find(name);
    return value && !value->is_null() ? value : nullptr;
  }
  const Json& need(const std::string& name) const {
    if (const Json* value = find(name)) return *value;
    throw EngineError("config", path_ + ": " + prefix_ + name + " is missing; this is no complete Hugging Face config");
  }
  [[noreturn]] void refuse(const std::string& name, const Json& value, const std::string& want) const {
    throw EngineError("config", path_ + ": " + prefix_ + name + " is " + value.describe() + "; it must be " + want);
  }
  [[noreturn]] void unsupported(const std::string& name, const std::string& value, const std::string& remedy) const {
    throw EngineError("unsupported", path_ + ": " + prefix_ + name + " is " + value +
                                         ", which this engine does not compute; " + remedy);
  }
  int64_t size(const std::string& name) const {
    const Json& value = need(name);
    const auto n = value.integer();
    if (!n || *n < 1 || *n > kMaxSize) refuse(name, value, "a whole number from 1 to 2^30");
    return *n;
  }
  double positive(const std::string& name) const {
    const Json& value = need(name);
    const auto x = value.number();
    if (!x || !(*x > 0) || !std::isfinite(*x)) refuse(name, value, "a number above 0");
    return *x;
  }
  bool flag(const std::string& name) const {
    const Json* value = find(name);
    if (value && !value->boolean()) refuse(name, *value, "true or false");
    return value && *value->boolean();
  }
  std::string text(const std::string& name, const std::string& otherwise) const {
    const Json* value = find(name);
    if (value && !value->string()) refuse(name, *value, "a string");
    return value ? *value->string() : otherwise;
  }

 private:
  const Json& object_;
  const std::string& path_;
  std::string prefix_;
};

std::string read_architecture(const Fields& fields) {
  const Json& list = fields.need("architectures");
  if (!list.array() || list.array()->size() != 1 || !list.array()->front().string())
    fields.refuse("architectures", list, "a list with one name");
  const std::string name = *list.array()->front().string();
  if (name != "LlamaForCausalLM" && name != "Qwen2ForCausalLM")
    fields.unsupported("architectures", "'" + name + "'", "use a LlamaForCausalLM or Qwen2ForCausalLM checkpoint");
  return name;
}

/// Refuses what would be computed wrongly without a word.
void check_supported(const Fields& fields) {
  if (const std::string act = fields.text("hidden_act", "silu"); act != "silu")
    fields.unsupported("hidden_act", "'" + act + "'", "use a checkpoint with silu");
  if (fields.flag("use_sliding_window"))
    fields.unsupported("use_sliding_window", "true", "use a checkpoint without sliding windows");
  if (const Json* types = fields.find("layer_types"))
    for (const Json& type : types->array() ? *types->array() : Json::Array{})
      if (!type.string() || *type.string() != "full_attention")
        fields.unsupported("layer_types", type.describe(), "use a checkpoint whose layers are all full_attention");
  if (const Json* part = fields.find("partial_rotary_factor"); part && part->number() != 1.0)
    fields.unsupported("partial_rotary_factor", part->describe(), "use a checkpoint that rotates whole heads");
  if (fields.find("quantization_config"))
    fields.unsupported("quantization_config", "set", "use the unquantised BF16, F16 or F32 checkpoint");
}

/// Rotary frequencies [D/2]; `linear` is position interpolation, `llama3` the scaling of Llama 3.1.
Rope read_rope(const Fields& fields, const std::string& path, int64_t dimension) {
  static const Json kNone;
  std::string key = "rope_scaling";
  const Json* found = fields.find(key);
  if (!found && (found = fields.find("rope_parameters"))) key = "rope_parameters";
  if (found && !found->object()) fields.refuse(key, *found, "an object or null");
  const Fields scaling(found ? *found : kNone, path, key + ".");

  const double theta = fields.find("rope_theta")    ? fields.positive("rope_theta")
                       : scaling.find("rope_theta") ? scaling.positive("rope_theta")
                                                    : 10000.0;
  const std::string field = scaling.find("rope_type") ? "rope_type" : "type";
  const std::string kind = scaling.text(field, "default");
  Rope rope;
  for (int64_t i = 0; i < dimension; i += 2)
    rope.inverse_frequencies.push_back(1.0 / std::pow(theta, static_cast<double>(i) / static_cast<double>(dimension)));

  if (kind == "linear") {
    const double factor = scaling.positive("factor");
    for (double& f : rope.inverse_frequencies) f /= factor;
  } else if (kind == "llama3") {
    const double factor = scaling.positive("factor"), low = scaling.positive("low_freq_factor"),
                 high = scaling.positive("high_freq_factor"),
                 original = scaling.positive("original_max_position_embeddings");
    if (high <= low) scaling.refuse("high_freq_factor", scaling.need("high_freq_factor"), "above low_freq_factor");
    for (double& f : rope.inverse_frequencies) {
      const double turns = original * f / (2 * std::numbers::pi);  // of this pair over the original context
      const double keep = std::clamp((turns - low) / (high - low), 0.0, 1.0);
      f = (1 - keep) * f / factor + keep * f;
    }
  } else if (kind != "default") {
    scaling.unsupported(field, "'" + kind + "'", "use a checkpoint with no, linear or llama3 RoPE scaling");
  } else if (found && scaling.find("full_attention")) {
    scaling.unsupported("full_attention", "an object", "use a checkpoint with one RoPE for all layers");
  }
  return rope;
}

Heads read_heads(const Fields& fields, int64_t hidden) {
  Heads heads;
  heads.query = fields.size("num_attention_heads");
  heads.key_value = fields.find("num_key_value_heads") ? fields.size("num_key_value_heads") : heads.query;
  if (heads.query % heads.key_value != 0)
    fields.refuse("num_key_value_heads", fields.need("num_key_value_heads"),
                  "a divisor of num_attention_heads, " + std::to_string(heads.query));
  if (fields.find("head_dim")) {
    heads.dimension = fields.size("head_dim");
    if (heads.dimension % 2 != 0) fields.refuse("head_dim", fields.need("head_dim"), "even, for RoPE");
  } else {
    heads.dimension = hidden / heads.query;
    if (hidden % heads.query != 0 || heads.dimension % 2 != 0)
      fields.refuse(
          "hidden_size", fields.need("hidden_size"),
          "an even multiple of num_attention_heads, " + std::to_string(heads.query) + ", when there is no head_dim");
  }
  return heads;
}

}  // namespace

Config load_config(const std::string& path) {
  Json json;
  try {
    json = Json::parse(read_text(path, kMaxBytes, "config"), kMaxBytes);
  } catch (const JsonError& error) {
    throw EngineError("config", path + ": " + error.what());
  }
  if (!json.object()) throw EngineError("config", path + ": is " + json.describe() + "; it must be an object");
  const Fields fields(json, path);
  Config config;
  config.architecture = read_architecture(fields);
  check_supported(fields);
  config.hidden = fields.size("hidden_size");
  config.intermediate = fields.size("intermediate_size");
  config.layers = fields.size("num_hidden_layers");
  config.heads = read_heads(fields, config.hidden);
  config.vocabulary = fields.size("vocab_size");
  config.max_positions = fields.size("max_position_embeddings");
  config.rms_epsilon = static_cast<float>(fields.positive("rms_norm_eps"));
  config.rope = read_rope(fields, path, config.heads.dimension);
  if (fields.find("tie_word_embeddings")) config.tied_embeddings = fields.flag("tie_word_embeddings");
  return config;
}

}  // namespace longhaul
