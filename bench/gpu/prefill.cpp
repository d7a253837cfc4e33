#include <cmath>
#include <cstring>
#include <cstdlib>
#include <filesystem>

#include "comm/tcp.h"
#include "engine/engine.h"
#include "engine/model.h"
#include "ops.h"
#include "timing.h"

namespace bench {
namespace {

/// Llama-3.1-8B's shapes; every layer has the same random numbers, which costs the GPU as much as any others.
std::shared_ptr<Model> random_model(const std::shared_ptr<Backend>& backend) {
  auto model = std::make_shared<Model>();
  model->backend = backend;
  Config& config = model->config;
  config = {"LlamaForCausalLM", 4096, 14336, 32, {32, 8, 128}, 128256, 1 << 20, 1e-5f, {}, false};
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
    model->layers.push_back({norm(), linear(6144, 4096), linear(4096, 4096), norm(), linear(28672, 4096), linear(4096, 14336), nullptr, nullptr});
  model->embedding = backend->load_table({bits.data(), DType::BF16, 128256, 4096});
  model->norm = norm();
  skip = 0;
  const Backend::LinearPart head{{bits.data(), DType::BF16, 128256, 4096}, nullptr};
  model->head = backend->load_linear(std::span(&head, 1));
  backend->synchronize();
  return model;
}

}  // namespace

void prefill(const std::shared_ptr<Backend>& backend, int64_t tokens, int64_t answer) {
  Engine engine(random_model(backend), make_solo());
  std::vector<uint32_t> document(static_cast<size_t>(tokens));
  for (size_t i = 0; i < document.size(); ++i) document[i] = static_cast<uint32_t>(i * 2654435761u % 128256);
  const auto run = [&](int64_t count) {
    PrefillRequest request;
    request.layout.document_tokens = count;
    request.block = std::span(document).first(static_cast<size_t>(count));
    Control control;
    const double start = now();
    engine.prefill(request, control);
    return now() - start;
  };
  run(2048);
  const int runs = tokens > 65536 ? 2 : 3;
  std::vector<double> times;
  for (int i = 0; i < runs; ++i) times.push_back(run(tokens));
  const auto n = static_cast<double>(tokens);
  report("prefill full, " + std::to_string(tokens) + " tokens", *std::min_element(times.begin(), times.end()), 0,
         n * 13.96e9 + n * n / 2 * 0.524e6, "best of " + std::to_string(runs) + ", the last layer's attention and MLP left out as in production");
  if (answer < 3) return;
  std::vector<double> at;
  Control control;
  control.progress = [&](const Progress&) { at.push_back(now()); };
  DecodeRequest request;
  const std::vector<uint32_t> question = {1, 2, 3, 4, 5, 6, 7, 8};
  request.query = question;
  request.max_new_tokens = answer;
  engine.decode(request, control);
  std::vector<double> steps;
  for (size_t i = 3; i < at.size(); ++i) steps.push_back(at[i] - at[i - 1]);
  const double weights = 2.0 * (32.0 * (4096.0 * 6144 + 4096.0 * 4096 + 3.0 * 4096 * 14336) + 4096.0 * 128256);
  report("decode, " + std::to_string(tokens) + " tokens of context", median(steps), weights + n * 131072, 0, "per token, a recorded step replayed");
}

void load(const std::shared_ptr<Backend>& backend, const std::string& directory) {
  double bytes = 0;
  for (const auto& file : std::filesystem::directory_iterator(directory))
    if (file.path().extension() == ".safetensors") bytes += static_cast<double>(file.file_size());
  const double start = now();
  const auto model = Model::load(directory, std::nullopt, backend);
  report("load of " + std::to_string(static_cast<int>(bytes / 1e6)) + " MB", now() - start, bytes, 0, directory);
}

}  // namespace bench
