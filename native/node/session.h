// What lives on the engine's thread: model, listener, communicator, cache. One method per call.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "../comm/choose.h"
#include "../comm/tcp.h"
#include "../engine/engine.h"
#include "../engine/model.h"
#include "../engine/rates.h"
#include "backends.h"
#include "call.h"

namespace longhaul::node {

struct LoadOptions {
  std::string model_directory;
  std::optional<std::string> heads_file;
  BackendOptions backend;
};

struct ConnectOptions {
  int64_t rank = 0;
  std::vector<std::string> peers;
  std::string secret;
  std::chrono::milliseconds deadline{0};
  CommOptions comm;
};

/// Owns what a PrefillRequest views.
struct PrefillOptions {
  PrefillRequest request;
  std::vector<uint32_t> head, block, query;
  bool trace = false, phases = false;
};

struct Prefilled {
  std::optional<PhaseTimes> phases;  // where options.phases asks for them
  PassedBytes passed;
};

/// Owns what a DecodeRequest views.
struct DecodeOptions {
  DecodeRequest request;
  std::vector<uint32_t> query;
};

class Session {
 public:
  std::shared_ptr<const Model> load(const LoadOptions& options);
  Rates measure_rates() const;
  int listen(const std::string& host, int64_t port);
  /// -> the communicator's kind: solo, tcp or nccl.
  std::string connect(const ConnectOptions& options);
  Prefilled prefill(PrefillOptions& options, Call& call);
  DecodeResult decode(DecodeOptions& options, Call& call);
  std::shared_ptr<const Trace> trace() const;
  void release();
  /// Frees everything.
  void clear();

  /// From any thread: breaks the communicator, or the connecting of it.
  void abort() noexcept;

 private:
  Engine& connected();

  std::shared_ptr<Model> model_;
  std::shared_ptr<Trace> trace_;
  std::mutex abort_mutex_;  // taken to replace the two below, and to abort what they are
  std::unique_ptr<TcpListener> listener_;
  std::unique_ptr<Engine> engine_;
};

}  // namespace longhaul::node
