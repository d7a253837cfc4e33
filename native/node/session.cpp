#include "session.h"

namespace longhaul::node {

std::shared_ptr<const Model> Session::load(const LoadOptions& options) {
  {
    const std::lock_guard lock(abort_mutex_);
    engine_.reset();
  }
  model_.reset();  // before the new weights come: two models need not fit
  model_ = Model::load(options.model_directory, options.heads_file,
                       make_backend(options.backend));
  return model_;
}

Rates Session::measure_rates() const {
  if (!model_) throw EngineError("invalid_argument", "measureRates needs a model; call load first");
  return longhaul::measure_rates(*model_);
}

int Session::listen(const std::string& host, int64_t port) {
  if (port < 0 || port > 65535) {
    throw EngineError("invalid_argument", "listen: port is " + std::to_string(port) + "; give 0 to 65535 (0 picks a free one)");
  }
  auto listener = std::make_unique<TcpListener>(host, static_cast<int>(port));
  const std::lock_guard lock(abort_mutex_);
  listener_ = std::move(listener);
  return listener_->port();
}

std::string Session::connect(const ConnectOptions& options) {
  if (!model_) throw EngineError("invalid_argument", "connect needs a model; call load first");
  const auto size = static_cast<int64_t>(options.peers.size());
  if (options.rank < 0 || options.rank >= size) {
    throw EngineError("invalid_argument", "connect: rank is " + std::to_string(options.rank) + " with " +
                                              std::to_string(size) + " peers; give 0 to peers - 1");
  }
  if (size > 1 && !listener_) throw EngineError("invalid_argument", "connect needs a listener for more than one rank; call listen first");
  {
    const std::lock_guard lock(abort_mutex_);
    engine_.reset();  // the old communicator's peers must not wait for this one
  }
  const Deadline deadline = Clock::now() + options.deadline;
  auto communicator = size == 1 ? make_solo()
                                : choose_communicator(connect_tcp(*listener_, static_cast<int>(options.rank), options.peers,
                                                                  options.secret, deadline),
                                                      *model_->backend, options.comm, deadline);
  const std::string kind = communicator->kind();
  auto engine = std::make_unique<Engine>(model_, std::move(communicator));
  const std::lock_guard lock(abort_mutex_);
  engine_ = std::move(engine);
  listener_.reset();
  return kind;
}

Prefilled Session::prefill(PrefillOptions& options, Call& call) {
  options.request.head = options.head;
  options.request.block = options.block;
  options.request.query = options.query;
  trace_ = options.trace ? std::make_shared<Trace>() : nullptr;
  call.control.trace = trace_.get();
  Prefilled prefilled;
  if (options.phases) call.control.phases = &prefilled.phases.emplace(PhaseTimes{});
  call.control.passed = &prefilled.passed;
  connected().prefill(options.request, call.control);
  call.control.phases = nullptr;
  call.control.passed = nullptr;
  return prefilled;
}

DecodeResult Session::decode(DecodeOptions& options, Call& call) {
  options.request.query = options.query;
  if (trace_) {  // of the last decode, not of all of them
    trace_->logits.clear();
    trace_->query_lse.clear();
    trace_->query_merged_lse.clear();
    trace_->query_hidden.clear();
  }
  call.control.trace = trace_.get();
  return connected().decode(options.request, call.control);
}

std::shared_ptr<const Trace> Session::trace() const {
  if (!trace_) throw EngineError("invalid_argument", "there is no trace; call prefill with trace: true first");
  return trace_;
}

void Session::release() {
  trace_.reset();
  if (engine_) engine_->release();
}

void Session::clear() {
  const std::lock_guard lock(abort_mutex_);
  engine_.reset();
  listener_.reset();
  trace_.reset();
  model_.reset();
}

void Session::abort() noexcept {
  const std::lock_guard lock(abort_mutex_);
  if (listener_) listener_->abort();
  if (engine_) engine_->communicator().abort();
}

Engine& Session::connected() {
  if (!engine_) throw EngineError("invalid_argument", "the engine is not connected; call load and connect first");
  return *engine_;
}

}  // namespace longhaul::node
