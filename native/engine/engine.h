// One rank's engine: a model on a backend, a communicator, and the cache of one document.
//
//   auto model = Model::load(directory, heads, backend);
//   Engine engine(model, std::move(communicator));
//   engine.prefill(request, control);            // every rank, together
//   engine.decode(question, control);            // every rank, together; once per question
//
// Semantics: APB (ACL 2025), Star Attention, exact attention in three ways; see docs/architecture.md.
// Not thread-safe, except Control::stop and Communicator::abort().
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "../backends/backend.h"
#include "../comm/communicator.h"
#include "errors.h"
#include "layout.h"
#include "phase_times.h"
#include "trace.h"

namespace longhaul {

class Model;  // model.h: config, weights and retaining heads on a backend

/// How a rank chooses its passing block (apb): by retaining heads (Locret), by the query's own
/// attention (Spava's training-free scores), or, as an ablation, by portable splitmix64 scores.
enum class Select { Heads, Spava, Random };

struct PrefillRequest {
  LayoutRequest layout;
  std::span<const uint32_t> head;   // document[:anchor_document], on ranks > 0
  std::span<const uint32_t> block;  // this rank's block of the document, and then its mirror
  std::span<const uint32_t> query;  // the query tokens that the anchor carries (apb), on all ranks; may be none
  Select select = Select::Heads;
  uint64_t select_seed = 0;
  int64_t chunk_rows = 0;           // rows per GEMM, and on the host per attention call: bounds activation memory; 0: forward.h's choice
};

/// Which ranks compute the MLP of a decoded token: each all of it, or each a share (tensor parallel), which costs a
/// collective a layer more and reads less of the weights. Choose: shared where that is the faster way.
enum class MlpWork { Choose, All, Shared };

struct DecodeRequest {
  std::span<const uint32_t> query;  // placed after the document, at position document_tokens
  int64_t max_new_tokens = 0;
  double temperature = 0;           // 0: greedy
  uint64_t seed = 0;                // used when temperature > 0
  std::vector<uint32_t> eos;        // one of them ends decoding and is kept as the last token
  std::vector<uint32_t> teacher;    // tests: replaces the choices, one per step
  MlpWork mlp = MlpWork::Choose;    // of steps of one token
};

struct DecodeResult {
  std::vector<uint32_t> tokens;
  bool ended = false;  // true: by an eos token; false: by max_new_tokens
};

struct Progress {
  enum class Phase { Prefill, Decode } phase;
  int64_t done, total;  // layers in prefill, tokens in decode
};

/// Bytes of passing blocks that a rank sent to the others and received from them.
struct PassedBytes {
  uint64_t sent = 0, received = 0;
};

/// What a caller can do to a call in progress.
struct Control {
  /// Cooperative stop. Only rank 0's flag counts: it travels in the next collective, so that all
  /// ranks throw EngineError("stopped") at the same place and the communicator lives.
  std::atomic<bool> stop{false};
  std::function<void(const Progress&)> progress;                 // called on the engine's thread
  std::chrono::milliseconds collective_timeout{60'000};          // for each collective
  PhaseTimes* phases = nullptr;                                  // benchmarks: prefill adds to them
  PassedBytes* passed = nullptr;                                 // prefill adds to them
  Trace* trace = nullptr;                                        // tests: record intermediate values
};

class Engine {
 public:
  Engine(std::shared_ptr<Model> model, std::unique_ptr<Communicator> communicator);
  ~Engine();

  /// Runs the document and keeps the K and V of this rank's block. Replaces an earlier document. Where a rank has no
  /// room for its part, all throw EngineError("too_long_for_memory") and the communicator lives.
  void prefill(const PrefillRequest& request, Control& control);

  /// Answers one question from the cache of the last prefill. The cache is afterwards as before.
  DecodeResult decode(const DecodeRequest& request, Control& control);

  /// Drops the document's cache.
  void release();

  Communicator& communicator();
  const Model& model() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace longhaul
