// Hugging Face's config.json of a Llama or Qwen2 checkpoint.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "../backends/backend.h"

namespace longhaul {

/// The part of config.json that the forward pass needs.
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
  std::optional<bool> tied_embeddings;  // unset: config.json says nothing, so the weights decide
};

/// Reads and checks the file. Throws EngineError "config" for a field that is missing or has a bad
/// value, "unsupported" for a model that this engine would compute wrongly (another architecture
/// or activation, sliding windows, other RoPE scaling, quantised weights); both name file, field,
/// value and remedy.
Config load_config(const std::string& path);

}  // namespace longhaul
