// A checkpoint's config, weights and retaining heads, loaded onto a backend.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "../backends/backend.h"

namespace longhaul {

/// The part of Hugging Face's config.json that the forward pass needs (Llama, Qwen2).
struct Config {
  std::string architecture;  // "LlamaForCausalLM" or "Qwen2ForCausalLM"
  int64_t hidden = 0;        // C
  int64_t intermediate = 0;  // F
  int64_t layers = 0;
  Heads heads;               // NQ, NK, D
  int64_t vocabulary = 0;    // V
  int64_t max_positions = 0; // max_position_embeddings
  float rms_epsilon = 1e-6f;
  Rope rope;                 // with `linear` or `llama3` scaling applied
  bool tied_embeddings = false;
};

struct Layer {
  BufferPtr input_norm;    // [C]
  LinearPtr qkv;           // [(NQ+2NK)*D, C]
  LinearPtr output;        // [C, NQ*D]
  BufferPtr post_norm;     // [C]
  LinearPtr gate_up;       // [2F, C]
  LinearPtr down;          // [C, F]
  LinearPtr retain_fc1;    // [R, (NQ+2NK)*D], null without retaining heads
  LinearPtr retain_fc2;    // [NK, R]
};

class Model {
 public:
  /// `directory` holds config.json and model.safetensors or model.safetensors.index.json with its
  /// shards; `heads` names the retaining heads' safetensors (unset: retaining_heads.safetensors in
  /// the directory when it is there). Throws EngineError "config" or "safetensors".
  static std::shared_ptr<Model> load(const std::string& directory,
                                     const std::optional<std::string>& heads,
                                     std::shared_ptr<Backend> backend);

  Config config;
  std::shared_ptr<Backend> backend;
  BufferPtr embedding;     // [V, C]
  std::vector<Layer> layers;
  BufferPtr norm;          // [C]
  LinearPtr head;          // [V, C]
  bool has_retaining_heads = false;
};

}  // namespace longhaul
