// Between JavaScript values and the engine's types; src/gpu-worker/engine/bindings.ts describes them.
#pragma once

#include <napi.h>

#include "../engine/layout.h"
#include "../engine/rates.h"
#include "backends.h"
#include "fields.h"
#include "session.h"

namespace longhaul::node {

LayoutRequest layout_request(const Fields& fields);
CudaOptions cuda_options(const Fields& fields);
LoadOptions load_options(const Fields& fields);
ConnectOptions connect_options(const Fields& fields);
PrefillOptions prefill_options(const Fields& fields);
DecodeOptions decode_options(const Fields& fields);
/// Sets what prefill and decode have in common: the time-out of collectives.
void set_control(const Fields& fields, Control& control);

Napi::Value to_js(Napi::Env env, const Layout& layout);
Napi::Value to_js(Napi::Env env, const Capabilities& capabilities);
Napi::Value to_js(Napi::Env env, const Model& model);
Napi::Value to_js(Napi::Env env, const Rates& rates);
Napi::Value to_js(Napi::Env env, const DecodeResult& result);
/// Its phases in seconds by name.
Napi::Value to_js(Napi::Env env, const Prefilled& prefilled);
Napi::Value to_js(Napi::Env env, const Trace& trace);
Napi::Value to_js(Napi::Env env, const Progress& progress);

}  // namespace longhaul::node
