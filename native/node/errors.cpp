#include "errors.h"

#include <cctype>
#include <new>
#include <string>

#include "../comm/communicator.h"
#include "../engine/errors.h"

namespace longhaul::node {
namespace {

Napi::Error make(Napi::Env env, std::string code, const std::string& message) {
  for (char& c : code) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  Napi::Error error = Napi::Error::New(env, message);
  error.Set("code", Napi::String::New(env, code));
  return error;
}

}  // namespace

Napi::Error to_js(Napi::Env env, const std::exception_ptr& error) {
  try {
    std::rethrow_exception(error);
  } catch (const EngineError& e) {
    return make(env, "engine_" + e.code(), e.what());
  } catch (const CommError& e) {
    Napi::Error result = make(env, "comm_" + e.code(), e.what());
    if (e.peer() >= 0) result.Set("peer", Napi::Number::New(env, e.peer()));
    return result;
  } catch (const std::bad_alloc&) {
    return make(env, "engine_out_of_memory", "this process is out of memory; use more ranks, or a smaller model or document");
  } catch (const std::exception& e) {
    return make(env, "engine_internal", e.what());
  } catch (...) {
    return make(env, "engine_internal", "an unknown C++ exception");
  }
}

Napi::Value guard(Napi::Env env, const std::function<Napi::Value()>& body) {
  try {
    return body();
  } catch (const Napi::Error&) {
    throw;
  } catch (...) {
    throw to_js(env, std::current_exception());
  }
}

}  // namespace longhaul::node
