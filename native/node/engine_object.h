// The JavaScript object: every method that takes time queues a job on the engine's thread and
// returns a promise.
//
// requestStop() and abort() concern exactly the calls that are pending when they are made: a call
// made later starts with its flags clear. Every call pending at abort() rejects with COMM_ABORTED.
#pragma once

#include <napi.h>

#include <functional>
#include <memory>
#include <unordered_map>

#include "fields.h"
#include "session.h"
#include "worker.h"

namespace longhaul::node {

class EngineObject : public Napi::ObjectWrap<EngineObject> {
 public:
  static Napi::Function define(Napi::Env env);
  explicit EngineObject(const Napi::CallbackInfo& info);
  ~EngineObject() override;

 private:
  /// Makes a job's result on the loop.
  using Result = std::function<Napi::Value(Napi::Env)>;

  struct Pending {
    Napi::Promise::Deferred deferred;
    std::shared_ptr<Call> call;
    Napi::FunctionReference on_progress;
  };

  Napi::Value load(const Napi::CallbackInfo& info);
  Napi::Value measure_rates(const Napi::CallbackInfo& info);
  Napi::Value listen(const Napi::CallbackInfo& info);
  Napi::Value connect(const Napi::CallbackInfo& info);
  Napi::Value prefill(const Napi::CallbackInfo& info);
  Napi::Value decode(const Napi::CallbackInfo& info);
  Napi::Value trace(const Napi::CallbackInfo& info);
  Napi::Value release(const Napi::CallbackInfo& info);
  Napi::Value dispose(const Napi::CallbackInfo& info);
  Napi::Value request_stop(const Napi::CallbackInfo& info);
  Napi::Value abort(const Napi::CallbackInfo& info);

  Napi::Value submit(Napi::Env env, std::function<Result(Session&, Call&)> work, const Fields* options = nullptr);
  void settle(Napi::Env env, uint64_t id, const Result& result, const std::exception_ptr& error);
  void abort_pending();

  /// The environment goes away, perhaps in the middle of a prefill.
  static void on_exit(void* object);

  std::shared_ptr<Session> session_ = std::make_shared<Session>();
  Worker worker_;
  std::unordered_map<uint64_t, Pending> pending_;
  uint64_t last_id_ = 0;
  bool disposed_ = false;
};

}  // namespace longhaul::node
