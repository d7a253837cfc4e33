#include "model.h"

#include <deque>
#include <filesystem>

#include "errors.h"
#include "safetensors.h"

namespace longhaul {
namespace {

/// Loads one layer's tensors from the checkpoint.
class LayerLoader {
 public:
  LayerLoader(const Checkpoint& checkpoint, Backend& backend, const std::string& prefix)
      : checkpoint_(checkpoint), backend_(backend), prefix_(prefix) {}

  struct Projection {
    std::string name;
    int64_t out;
  };

  /// Projections with the same input, stacked; each with its bias where the checkpoint has one.
  LinearPtr linear(const std::vector<Projection>& projections, int64_t in) const {
    std::vector<Backend::LinearPart> parts;
    std::deque<HostTensor> biases;  // a deque: parts point at its elements
    for (const auto& [name, out] : projections) {
      const std::string full = prefix_ + name;
      Backend::LinearPart part{checkpoint_.tensor(full + ".weight", out, in), nullptr};
      if (checkpoint_.find(full + ".bias"))
        part.bias = &biases.emplace_back(checkpoint_.tensor(full + ".bias", 1, out));
      parts.push_back(part);
    }
    return backend_.load_linear(parts);
  }
  BufferPtr vector(const std::string& name, int64_t size) const {
    return backend_.load_table(checkpoint_.tensor(prefix_ + name, 1, size));
  }

 private:
  const Checkpoint& checkpoint_;
  Backend& backend_;
  std::string prefix_;
};

std::string layer_prefix(int64_t i) { return "model.layers." + std::to_string(i) + "."; }

Layer load_layer(const Checkpoint& checkpoint, const Config& config, Backend& backend, int64_t i) {
  const auto& [nq, nk, d] = config.heads;
  const LayerLoader load(checkpoint, backend, layer_prefix(i));
  Layer layer;
  layer.input_norm = load.vector("input_layernorm.weight", config.hidden);
  layer.qkv = load.linear({{"self_attn.q_proj", nq * d}, {"self_attn.k_proj", nk * d}, {"self_attn.v_proj", nk * d}},
                          config.hidden);
  layer.output = load.linear({{"self_attn.o_proj", config.hidden}}, nq * d);
  layer.post_norm = load.vector("post_attention_layernorm.weight", config.hidden);
  layer.gate_up =
      load.linear({{"mlp.gate_proj", config.intermediate}, {"mlp.up_proj", config.intermediate}}, config.hidden);
  layer.down = load.linear({{"mlp.down_proj", config.hidden}}, config.intermediate);
  return layer;
}

/// Retaining heads (Locret): fc1 [R, (NQ+2NK)*D] and fc2 [NK, R] of every layer; R is the file's.
void load_retaining_heads(const std::string& path, const Config& config, Backend& backend, std::vector<Layer>& layers) {
  const Checkpoint checkpoint = Checkpoint::open_file(path);
  const auto& [nq, nk, d] = config.heads;
  const std::string beyond = layer_prefix(config.layers) + "self_attn.fc1.weight";
  if (checkpoint.find(beyond))
    throw EngineError("safetensors", path + ": tensor '" + beyond + "': the model has only " +
                                         std::to_string(config.layers) +
                                         " layers; these retaining heads belong to another model");
  for (int64_t i = 0; i < config.layers; ++i) {
    const LayerLoader load(checkpoint, backend, layer_prefix(i));
    const TensorView* fc1 = checkpoint.find(layer_prefix(i) + "self_attn.fc1.weight");
    const int64_t width = fc1 && fc1->shape.size() == 2 && fc1->shape[0] > 0
                              ? fc1->shape[0]
                              : 1;  // 1: the load below names what is wrong
    layers[static_cast<size_t>(i)].retain_fc1 = load.linear({{"self_attn.fc1", width}}, (nq + 2 * nk) * d);
    layers[static_cast<size_t>(i)].retain_fc2 = load.linear({{"self_attn.fc2", nk}}, width);
  }
}

}  // namespace

std::shared_ptr<Model> Model::load(const std::string& directory, const std::optional<std::string>& heads,
                                   std::shared_ptr<Backend> backend) {
  auto model = std::make_shared<Model>();
  model->backend = backend;
  model->config = load_config(directory + "/config.json");
  const Config& config = model->config;
  const Checkpoint checkpoint = Checkpoint::open_directory(directory);

  const HostTensor embedding = checkpoint.tensor("model.embed_tokens.weight", config.vocabulary, config.hidden);
  model->embedding = backend->load_table(embedding);
  for (int64_t i = 0; i < config.layers; ++i) model->layers.push_back(load_layer(checkpoint, config, *backend, i));
  model->norm = backend->load_table(checkpoint.tensor("model.norm.weight", 1, config.hidden));
  // A tied head is usually left out of the file. One that is missing where the config says it is
  // not tied is an incomplete download.
  const bool tied = config.tied_embeddings.value_or(!checkpoint.find("lm_head.weight"));
  const Backend::LinearPart head{
      tied ? embedding : checkpoint.tensor("lm_head.weight", config.vocabulary, config.hidden), nullptr};
  model->head = backend->load_linear(std::span(&head, 1));

  const std::string path = heads.value_or(directory + "/retaining_heads.safetensors");
  if (heads || std::filesystem::exists(path)) {
    load_retaining_heads(path, config, *backend, model->layers);
    model->has_retaining_heads = true;
  }
  backend->synchronize();  // the mapped files go away when this returns
  return model;
}

}  // namespace longhaul
