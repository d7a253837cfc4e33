#include "engine.h"

#include "document.h"
#include "memory_agreement.h"
#include "model.h"
#include "request_checks.h"

namespace longhaul {

struct Engine::State {
  std::shared_ptr<Model> model;
  std::unique_ptr<Communicator> communicator;
  std::optional<Document> document;

  Exchange exchange(const Control& control) { return {*communicator, *model->backend, control.collective_timeout}; }

  /// A failure that only this rank knows of would leave its peers waiting until their deadline:
  /// breaking the communicator tells them at once. A stop, and what all have agreed on, is known to all.
  template <class Body>
  auto guarded(const Body& body) {
    try {
      return body();
    } catch (const EngineError& error) {
      if (error.code() != "stopped" && error.code() != kTooLongForMemory && communicator->size() > 1) communicator->abort();
      throw;
    } catch (...) {
      if (communicator->size() > 1) communicator->abort();
      throw;
    }
  }
};

Engine::Engine(std::shared_ptr<Model> model, std::unique_ptr<Communicator> communicator)
    : state_(std::make_unique<State>(State{std::move(model), std::move(communicator), std::nullopt})) {
  if (state_->communicator->device_memory() && state_->model->backend->host_memory())
    throw EngineError("invalid_argument", "communicator " + state_->communicator->kind() +
                                              " moves device memory, backend " + state_->model->backend->description() +
                                              " has none; choose tcp");
}

Engine::~Engine() = default;

void Engine::prefill(const PrefillRequest& request, Control& control) {
  State& s = *state_;
  const Layout layout = plan_layout(request.layout);
  check_prefill(*s.model, s.communicator->size(), request, layout);
  Exchange exchange = s.exchange(control);
  exchange.agree(fingerprint(*s.model, request, layout), refuse_prefill(*s.model, exchange.rank(), request, layout));
  s.document.reset();  // before the new one is allocated
  s.document = s.guarded([&] { return agree_on_memory(*s.model, exchange, request, layout, control)(); });
}

DecodeResult Engine::decode(const DecodeRequest& request, Control& control) {
  State& s = *state_;
  if (!s.document) throw EngineError("invalid_argument", "there is no document; a prefill must come first and succeed");
  check_decode(*s.model, s.document->tokens, request);
  Exchange exchange = s.exchange(control);
  exchange.agree(fingerprint(*s.model, s.document->tokens, request), std::nullopt);
  return s.guarded([&] { return decode_question(*s.model, exchange, *s.document, request, control); });
}

void Engine::release() { state_->document.reset(); }

Communicator& Engine::communicator() { return *state_->communicator; }

const Model& Engine::model() const { return *state_->model; }

}  // namespace longhaul
