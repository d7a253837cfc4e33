#include "random_model.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

namespace bench {

std::shared_ptr<Model> random_model(const std::shared_ptr<Backend>& backend, bool heads, int layers) {
  auto model = std::make_shared<Model>();
  model->backend = backend;
  Config& config = model->config;
  config = {"LlamaForCausalLM", 4096, 14336, layers, {32, 8, 128}, 128256, 1 << 20, 1e-5f, {}, false};
  for (int i = 0; i < 64; ++i) config.rope.inverse_frequencies.push_back(std::pow(500000.0, -i / 64.0));
  std::vector<uint16_t> bits(static_cast<size_t>(128256) * 4096);  // as large as the largest weight
  uint64_t seed = 1;
  for (uint16_t& b : bits) {
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    const float x = 0.02f * static_cast<float>(static_cast<int64_t>(seed >> 40) - (1 << 23)) / (1 << 22);
    uint32_t word;
    std::memcpy(&word, &x, 4);
    b = static_cast<uint16_t>(word >> 16);
  }
  size_t skip = 0;
  const auto linear = [&](int64_t out, int64_t in) {
    skip = (skip + 1234567) % (bits.size() - static_cast<size_t>(std::min<int64_t>(out * in, static_cast<int64_t>(bits.size()) - 1)));
    const Backend::LinearPart part{{bits.data() + skip, DType::BF16, out, in}, nullptr};
    return backend->load_linear(std::span(&part, 1));
  };
  const std::vector<float> ones(4096, 1.f);
  const auto norm = [&] { return backend->load_table({ones.data(), DType::F32, 1, 4096}); };
  for (int64_t i = 0; i < config.layers; ++i)
    model->layers.push_back({norm(), linear(6144, 4096), linear(4096, 4096), norm(), linear(28672, 4096), linear(4096, 14336),
                             heads ? linear(1024, 6144) : nullptr, heads ? linear(8, 1024) : nullptr});
  model->has_retaining_heads = heads;
  model->embedding = backend->load_table({bits.data(), DType::BF16, 128256, 4096});
  model->norm = norm();
  skip = 0;
  const Backend::LinearPart head{{bits.data(), DType::BF16, 128256, 4096}, nullptr};
  model->head = backend->load_linear(std::span(&head, 1));
  backend->synchronize();
  return model;
}

}  // namespace bench
