// C++ exceptions as JavaScript errors: `code` is stable, `peer` is the rank at fault if one is known.
#pragma once

#include <napi.h>

#include <exception>
#include <functional>

namespace longhaul::node {

/// EngineError "config" -> ENGINE_CONFIG, CommError "peer_lost" -> COMM_PEER_LOST, and so on;
/// bad_alloc -> ENGINE_OUT_OF_MEMORY, anything else -> ENGINE_INTERNAL.
Napi::Error to_js(Napi::Env env, const std::exception_ptr& error);

/// Runs a method's body; its C++ exceptions become JavaScript ones.
Napi::Value guard(Napi::Env env, const std::function<Napi::Value()>& body);

}  // namespace longhaul::node
