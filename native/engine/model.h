// A checkpoint's config, weights and retaining heads, loaded onto a backend.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "../backends/backend.h"
#include "config.h"

namespace longhaul {

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
  /// the directory when it is there). Throws EngineError "config", "unsupported", "safetensors" or
  /// "out_of_memory".
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
