// Typed errors of the engine: a stable `code`, and a sentence with the value and the remedy.
#pragma once

#include <stdexcept>
#include <string>

namespace longhaul {

/// Codes: "config" (config.json), "safetensors" (a file that is malformed, truncated or does not
/// fit the config; the message names file and tensor), "invalid_argument", "out_of_memory",
/// "too_long", "stopped" (requestStop took effect: the communicator lives), "unsupported",
/// "not_finite" (NaN or infinite logits).
class EngineError : public std::runtime_error {
 public:
  EngineError(std::string code, const std::string& message)
      : std::runtime_error(message), code_(std::move(code)) {}
  const std::string& code() const { return code_; }

 private:
  std::string code_;
};

}  // namespace longhaul
