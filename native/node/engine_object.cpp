#include "engine_object.h"

#include "convert.h"
#include "errors.h"

namespace longhaul::node {
namespace {

/// How long the exit of a process or worker waits for the layer in progress.
constexpr std::chrono::seconds kExitPatience{5};

}  // namespace

Napi::Function EngineObject::define(Napi::Env env) {
  return DefineClass(env, "Engine",
                     {InstanceMethod<&EngineObject::load>("load"),
                      InstanceMethod<&EngineObject::measure_rates>("measureRates"),
                      InstanceMethod<&EngineObject::listen>("listen"),
                      InstanceMethod<&EngineObject::connect>("connect"),
                      InstanceMethod<&EngineObject::prefill>("prefill"),
                      InstanceMethod<&EngineObject::decode>("decode"),
                      InstanceMethod<&EngineObject::trace>("trace"),
                      InstanceMethod<&EngineObject::release>("release"),
                      InstanceMethod<&EngineObject::dispose>("dispose"),
                      InstanceMethod<&EngineObject::request_stop>("requestStop"),
                      InstanceMethod<&EngineObject::abort>("abort")});
}

EngineObject::EngineObject(const Napi::CallbackInfo& info)
    : Napi::ObjectWrap<EngineObject>(info), worker_(info.Env()) {
  napi_add_env_cleanup_hook(info.Env(), on_exit, this);
}

EngineObject::~EngineObject() { napi_remove_env_cleanup_hook(Env(), on_exit, this); }

Napi::Value EngineObject::load(const Napi::CallbackInfo& info) {
  return guard(info.Env(), [&] {
    return submit(info.Env(), [options = load_options({info[0], "load"})](Session& session, Call&) -> Result {
      return [model = session.load(options)](Napi::Env env) { return to_js(env, *model); };
    });
  });
}

Napi::Value EngineObject::measure_rates(const Napi::CallbackInfo& info) {
  return submit(info.Env(), [](Session& session, Call&) -> Result {
    return [rates = session.measure_rates()](Napi::Env env) { return to_js(env, rates); };
  });
}

Napi::Value EngineObject::listen(const Napi::CallbackInfo& info) {
  return guard(info.Env(), [&] {
    const Fields fields(info[0], "listen");
    return submit(info.Env(), [host = fields.text("host"), port = fields.integer("port", 0)](Session& session, Call&) -> Result {
      return [port = session.listen(host, port)](Napi::Env env) { return Napi::Number::New(env, port); };
    });
  });
}

Napi::Value EngineObject::connect(const Napi::CallbackInfo& info) {
  return guard(info.Env(), [&] {
    return submit(info.Env(), [options = connect_options({info[0], "connect"})](Session& session, Call&) -> Result {
      return [kind = session.connect(options)](Napi::Env env) { return Napi::String::New(env, kind); };
    });
  });
}

Napi::Value EngineObject::prefill(const Napi::CallbackInfo& info) {
  return guard(info.Env(), [&] {
    const Fields fields(info[0], "prefill");
    return submit(info.Env(), [options = prefill_options(fields)](Session& session, Call& call) mutable -> Result {
      const Prefilled prefilled = session.prefill(options, call);
      return [prefilled](Napi::Env env) { return to_js(env, prefilled); };
    }, &fields);
  });
}

Napi::Value EngineObject::decode(const Napi::CallbackInfo& info) {
  return guard(info.Env(), [&] {
    const Fields fields(info[0], "decode");
    return submit(info.Env(), [options = decode_options(fields)](Session& session, Call& call) mutable -> Result {
      return [result = session.decode(options, call)](Napi::Env env) { return to_js(env, result); };
    }, &fields);
  });
}

Napi::Value EngineObject::trace(const Napi::CallbackInfo& info) {
  return submit(info.Env(), [](Session& session, Call&) -> Result {
    return [trace = session.trace()](Napi::Env env) { return to_js(env, *trace); };
  });
}

Napi::Value EngineObject::release(const Napi::CallbackInfo& info) {
  return submit(info.Env(), [](Session& session, Call&) -> Result {
    session.release();
    return {};
  });
}

Napi::Value EngineObject::dispose(const Napi::CallbackInfo& info) {
  if (!disposed_) abort_pending();
  const Napi::Value promise = submit(info.Env(), [](Session& session, Call&) -> Result {
    session.clear();
    return {};
  });
  disposed_ = true;
  return promise;
}

Napi::Value EngineObject::request_stop(const Napi::CallbackInfo& info) {
  for (auto& [id, pending] : pending_) pending.call->control.stop = true;
  return info.Env().Undefined();
}

Napi::Value EngineObject::abort(const Napi::CallbackInfo& info) {
  if (!disposed_) abort_pending();  // dispose has done it, and must itself go through
  return info.Env().Undefined();
}

void EngineObject::abort_pending() {
  for (auto& [id, pending] : pending_) pending.call->abort();
  session_->abort();
}

Napi::Value EngineObject::submit(Napi::Env env, std::function<Result(Session&, Call&)> work, const Fields* options) {
  auto deferred = Napi::Promise::Deferred::New(env);
  if (disposed_) {
    deferred.Reject(to_js(env, std::make_exception_ptr(EngineError("disposed", "this engine was disposed of; create a new one"))).Value());
    return deferred.Promise();
  }
  const uint64_t id = ++last_id_;
  auto call = std::make_shared<Call>();
  Napi::FunctionReference on_progress;
  if (options != nullptr) {
    set_control(*options, call->control);
    if (const Napi::Function callback = options->function("onProgress"); !callback.IsEmpty()) on_progress = Napi::Persistent(callback);
  }
  const bool reports = !on_progress.IsEmpty();
  call->control.progress = [this, id, reports, call = call.get(), post = worker_.poster()](const Progress& progress) {
    call->throw_if_aborted();  // a layer of a rank alone has no collective that would notice
    if (!reports) return;
    post([this, id, progress](Napi::Env loop) {
      // Copied out first: the callback may make calls that move the table.
      const Napi::Function callback = pending_.at(id).on_progress.Value();
      callback.Call({to_js(loop, progress)});
    });
  };
  if (pending_.empty()) {
    Ref();  // no garbage collection while a promise is pending
    worker_.hold(env);
  }
  pending_.emplace(id, Pending{deferred, call, std::move(on_progress)});

  // Of `this` only the loop makes use: it is alive there as long as tasks are run at all.
  worker_.run([this, id, call, session = session_, post = worker_.poster(), work = std::move(work)]() mutable {
    Result result;
    std::exception_ptr error;
    try {
      call->throw_if_aborted();
      result = work(*session, *call);
    } catch (...) {
      error = std::current_exception();
    }
    try {
      call->throw_if_aborted();  // whatever else went wrong, or right, meanwhile
    } catch (...) {
      error = std::current_exception();
    }
    work = nullptr;  // its token arrays can be large
    post([this, id, result = std::move(result), error](Napi::Env loop) { settle(loop, id, result, error); });
  });
  return deferred.Promise();
}

void EngineObject::settle(Napi::Env env, uint64_t id, const Result& result, const std::exception_ptr& error) {
  const auto node = pending_.extract(id);
  const Napi::Promise::Deferred& deferred = node.mapped().deferred;
  if (error) deferred.Reject(to_js(env, error).Value());
  else deferred.Resolve(result ? result(env) : env.Undefined());
  if (!pending_.empty()) return;
  worker_.let_go(env);
  if (disposed_) worker_.close(kExitPatience);  // its last job is done: the thread ends now
  Unref();
}

void EngineObject::on_exit(void* object) {
  auto* self = static_cast<EngineObject*>(object);
  self->abort_pending();
  self->worker_.close(kExitPatience);
  self->pending_.clear();
}

}  // namespace longhaul::node
