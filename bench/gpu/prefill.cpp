#include <filesystem>

#include "comm/tcp.h"
#include "engine/engine.h"
#include "engine/model.h"
#include "ops.h"
#include "random_model.h"
#include "timing.h"

namespace bench {

void prefill(const std::shared_ptr<Backend>& backend, int64_t tokens, int64_t answer) {
  Engine engine(random_model(backend, false), make_solo());
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
  report("load of " + std::to_string(static_cast<int>(bytes / 1e6)) + " MB", now() - start, bytes, 0);
}

}  // namespace bench
