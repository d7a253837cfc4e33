// Which backends this build has, and their making.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "../backends/backend.h"

namespace longhaul::node {

struct Capabilities {
  std::vector<std::string> backends;
  std::string isa;  // the widest vector kernels of the CPU backend that this processor runs
  int threads = 1;
  bool cuda = false;
  std::vector<std::string> cuda_missing;
};

Capabilities capabilities();

/// `name`: "cpu", "cuda" or "auto" (the best that is there); `isa`: "auto", "portable", "avx2" or
/// "avx512". A backend that was named is never replaced: EngineError("unsupported") instead.
std::shared_ptr<Backend> make_backend(const std::string& name, int64_t threads, const std::string& isa);

}  // namespace longhaul::node
