// The addon's exports; src/gpu-worker/engine/bindings.ts describes them.
#include <dlfcn.h>
#include <napi.h>

#include "convert.h"
#include "engine_object.h"
#include "errors.h"

namespace {

using namespace longhaul::node;

/// An engine's thread can outlive the worker_thread that loaded the addon, which would unload it.
void stay_loaded() {
  Dl_info self;
  if (::dladdr(reinterpret_cast<void*>(&stay_loaded), &self) != 0) {
    ::dlopen(self.dli_fname, RTLD_NOW | RTLD_NOLOAD | RTLD_NODELETE);
  }
}

Napi::Value plan(const Napi::CallbackInfo& info) {
  return guard(info.Env(), [&] {
    return to_js(info.Env(), longhaul::plan_layout(layout_request({info[0], "planLayout"})));
  });
}

Napi::Value report(const Napi::CallbackInfo& info) {
  return guard(info.Env(), [&] { return to_js(info.Env(), capabilities(cuda_options({info[0], "capabilities"}))); });
}

Napi::Object init(Napi::Env env, Napi::Object exports) {
  stay_loaded();
  exports.Set("Engine", EngineObject::define(env));
  exports.Set("planLayout", Napi::Function::New<plan>(env, "planLayout"));
  exports.Set("capabilities", Napi::Function::New<report>(env, "capabilities"));
  return exports;
}

}  // namespace

NODE_API_MODULE(longhaul, init)
