// config.json and the fit between config, checkpoint and retaining heads.
#include <fstream>
#include <sstream>

#include "check.h"
#include "engine/errors.h"
#include "engine/model.h"
#include "engine_files.h"
#include "plain_backend.h"

using namespace longhaul;
using namespace longhaul::testing;

namespace {

const std::string kModel = "test/cases/models/llama-d32";
const std::string kConfig =
    R"({"architectures": ["LlamaForCausalLM"], "hidden_size": 128, "intermediate_size": 128, "num_hidden_layers": 3,
 "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 288, "rms_norm_eps": 1e-05, "max_position_embeddings": 4096})";

/// kConfig with more fields; a later one replaces an earlier one.
std::string with(const std::string& fields) {
  std::string text = kConfig;
  std::istringstream list(fields);
  const std::string key = fields.substr(0, fields.find(':'));
  if (const size_t at = text.find(key + ":"); at != text.npos) {
    size_t end = text[at + key.size() + 2] == '[' ? text.find(']', at) + 1 : text.find_first_of(",}", at);
    return text.replace(at, end - at, fields);
  }
  return text.insert(text.size() - 1, ", " + fields);
}
Config config(const std::string& text) {
  const TemporaryFolder folder;
  return load_config(folder.write("config.json", text));
}
std::string refusal(const std::string& code, const std::string& fields) {
  return CHECK_THROWS(EngineError, code, config(with(fields)));
}

/// A copy of the small model's folder that a test may break.
struct ModelCopy : TemporaryFolder {
  ModelCopy() { std::filesystem::copy(kModel, path()); }
  std::string refusal(const std::string& code, std::optional<std::string> heads = std::nullopt) const {
    return CHECK_THROWS(EngineError, code, Model::load(path(), heads, std::make_shared<PlainBackend>()));
  }
  /// Replaces text of equal length in a file.
  void edit(const std::string& name, const std::string& from, const std::string& to) const {
    std::stringstream bytes;
    bytes << std::ifstream(*this / name, std::ios::binary).rdbuf();
    std::string text = bytes.str();
    CHECK(from.size() == to.size() && text.find(from) != text.npos);
    write(name, text.replace(text.find(from), from.size(), to));
  }
};

}  // namespace

TEST("config reads defaults, head_dim and RoPE scaling") {
  const Config plain = config(kConfig);
  CHECK(plain.heads.dimension == 32 && plain.rope.inverse_frequencies.size() == 16 &&
        !plain.tied_embeddings.has_value());
  CHECK_NEAR(plain.rope.inverse_frequencies[8], 0.01, 1e-15);
  CHECK(config(with("\"head_dim\": 64")).heads.dimension == 64);
  CHECK(config(with("\"num_key_value_heads\": null")).heads.key_value == 4);
  CHECK(config(with("\"tie_word_embeddings\": true")).tied_embeddings == true);
  CHECK_NEAR(config(with(R"("rope_scaling": {"type": "linear", "factor": 4.0})")).rope.inverse_frequencies[8], 0.0025,
             1e-15);
  CHECK_NEAR(
      config(with(R"("rope_parameters": {"rope_type": "default", "rope_theta": 1e6})")).rope.inverse_frequencies[8],
      0.001, 1e-15);
  const Rope llama3 =
      config(
          with(
              R"("rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64})"))
          .rope;
  CHECK(llama3.inverse_frequencies[0] == 1.0);                 // fast pairs stay
  CHECK_NEAR(llama3.inverse_frequencies[8], 0.01 / 8, 1e-15);  // slow ones are interpolated
}

TEST("config names the field, its value and the remedy") {
  CHECK_CONTAINS(refusal("config", "\"hidden_size\": \"128\""), "hidden_size is '128'; it must be a whole number");
  CHECK_CONTAINS(refusal("config", "\"hidden_size\": -1"), "hidden_size is -1");
  CHECK_CONTAINS(refusal("config", "\"hidden_size\": null"), "hidden_size is missing");
  CHECK_CONTAINS(refusal("config", "\"hidden_size\": 130"),
                 "hidden_size is 130; it must be an even multiple of num_attention_heads, 4");
  CHECK_CONTAINS(refusal("config", "\"num_key_value_heads\": 3"), "a divisor of num_attention_heads");
  CHECK_CONTAINS(refusal("config", "\"head_dim\": 33"), "even");
  CHECK_CONTAINS(refusal("config", "\"vocab_size\": 1e3"), "vocab_size");
  CHECK_CONTAINS(refusal("config", "\"rms_norm_eps\": 0"), "above 0");
  CHECK_CONTAINS(refusal("config", "\"rope_theta\": true"), "rope_theta is true");
  CHECK_CONTAINS(refusal("config", "\"tie_word_embeddings\": 1"), "true or false");
  CHECK_CONTAINS(refusal("config", "\"rope_scaling\": {\"type\": \"linear\"}"), "rope_scaling.factor is missing");
  CHECK_CONTAINS((CHECK_THROWS(EngineError, "config", config("[]"))), "it must be an object");
  CHECK_CONTAINS((CHECK_THROWS(EngineError, "config", config("{\"a\""))), "JSON");
  CHECK_CONTAINS((CHECK_THROWS(EngineError, "config", load_config("no/such/config.json"))), "no/such/config.json");
}

TEST("config refuses models that would be computed wrongly") {
  CHECK_CONTAINS(refusal("unsupported", "\"architectures\": [\"MistralForCausalLM\"]"), "'MistralForCausalLM'");
  CHECK_CONTAINS(refusal("unsupported", "\"hidden_act\": \"gelu\""), "hidden_act is 'gelu'");
  CHECK_CONTAINS(refusal("unsupported", "\"use_sliding_window\": true"), "use_sliding_window");
  CHECK_CONTAINS(refusal("unsupported", "\"layer_types\": [\"full_attention\", \"sliding_attention\"]"),
                 "layer_types is 'sliding_attention'");
  CHECK_CONTAINS(refusal("unsupported", "\"rope_scaling\": {\"rope_type\": \"yarn\", \"factor\": 4.0}"),
                 "rope_scaling.rope_type is 'yarn'");
  CHECK_CONTAINS(refusal("unsupported", "\"partial_rotary_factor\": 0.5"), "partial_rotary_factor");
  CHECK_CONTAINS(refusal("unsupported", "\"quantization_config\": {}"), "quantization_config");
}

TEST("a model whose tensors do not fit its config is refused by file, tensor and shapes") {
  const ModelCopy copy;
  copy.edit("config.json", "\"vocab_size\": 288", "\"vocab_size\": 287");
  CHECK_CONTAINS(
      copy.refusal("safetensors"),
      copy / "model.safetensors: tensor 'model.embed_tokens.weight': has shape [288, 128], the model needs [287, 128]");
  copy.edit("config.json", "\"vocab_size\": 287", "\"vocab_size\": 288");
  copy.edit("model.safetensors", "model.layers.2.mlp.down_proj", "model.layers.2.mlp.dawn_proj");
  CHECK_CONTAINS(copy.refusal("safetensors"), "tensor 'model.layers.2.mlp.down_proj.weight': is missing");
}

TEST("retaining heads are optional, and must fit when they are there") {
  const ModelCopy copy;
  const std::string heads = "retaining_heads.safetensors";
  CHECK(Model::load(copy.path(), std::nullopt, std::make_shared<PlainBackend>())->has_retaining_heads);
  CHECK_CONTAINS(copy.refusal("safetensors", copy / "other.safetensors"), "other.safetensors: cannot be opened");
  copy.edit(heads, "model.layers.1.self_attn.fc1", "model.layers.3.self_attn.fc1");
  CHECK_CONTAINS(copy.refusal("safetensors"), "belong to another model");
  copy.edit(heads, "model.layers.3.self_attn.fc1", "model.layers.1.self_attn.fx1");
  CHECK_CONTAINS(copy.refusal("safetensors"), "tensor 'model.layers.1.self_attn.fc1.weight': is missing");
  std::filesystem::remove(copy / heads);
  CHECK(!Model::load(copy.path(), std::nullopt, std::make_shared<PlainBackend>())->has_retaining_heads);
}

TEST("a missing lm_head means a tied one unless the config denies it") {
  const ModelCopy copy;
  copy.edit("model.safetensors", "lm_head.weight", "ln_head.weight");
  CHECK_CONTAINS(copy.refusal("safetensors"), "tensor 'lm_head.weight': is missing");
  copy.edit("config.json", "\"tie_word_embeddings\": false,", std::string(29, ' '));
  CHECK(Model::load(copy.path(), std::nullopt, std::make_shared<PlainBackend>())->head->out() == 288);
}
