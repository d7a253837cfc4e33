#include "fields.h"

#include <cmath>

#include "../engine/errors.h"

namespace longhaul::node {
namespace {

constexpr double kLargestInteger = 9007199254740991.0;  // Number.MAX_SAFE_INTEGER

std::optional<int64_t> as_integer(const Napi::Value& value) {
  if (!value.IsNumber()) return std::nullopt;
  const double number = value.As<Napi::Number>().DoubleValue();
  if (std::trunc(number) != number || std::abs(number) > kLargestInteger) return std::nullopt;
  return static_cast<int64_t>(number);
}

}  // namespace

Fields::Fields(const Napi::Value& value, std::string call) : call_(std::move(call)) {
  if (!value.IsObject()) throw EngineError("invalid_argument", call_ + " needs an object of options");
  object_ = value.As<Napi::Object>();
}

Napi::Value Fields::at(const char* name) const { return object_.Get(name); }

void Fields::refuse(const char* name, const char* wanted) const {
  throw EngineError("invalid_argument", call_ + ": " + name + " must be " + wanted);
}

bool Fields::has(const char* name) const {
  const Napi::Value value = at(name);
  return !value.IsUndefined() && !value.IsNull();
}

int64_t Fields::integer(const char* name) const {
  const auto value = as_integer(at(name));
  if (!value) refuse(name, "an integer");
  return *value;
}

int64_t Fields::integer(const char* name, int64_t otherwise) const {
  return has(name) ? integer(name) : otherwise;
}

double Fields::number(const char* name, double otherwise) const {
  if (!has(name)) return otherwise;
  const Napi::Value value = at(name);
  if (!value.IsNumber()) refuse(name, "a number");
  return value.As<Napi::Number>().DoubleValue();
}

uint64_t Fields::seed(const char* name) const {
  if (!has(name)) return 0;
  const Napi::Value value = at(name);
  if (value.IsBigInt()) {
    bool lossless = false;
    const uint64_t seed = value.As<Napi::BigInt>().Uint64Value(&lossless);
    if (lossless) return seed;
  } else if (const auto integer = as_integer(value); integer && *integer >= 0) {
    return static_cast<uint64_t>(*integer);
  }
  refuse(name, "an integer from 0 to 2^64 - 1 (a bigint above 2^53)");
}

bool Fields::boolean(const char* name) const {
  if (!has(name)) return false;
  const Napi::Value value = at(name);
  if (!value.IsBoolean()) refuse(name, "true or false");
  return value.As<Napi::Boolean>();
}

std::string Fields::text(const char* name) const {
  const Napi::Value value = at(name);
  if (!value.IsString()) refuse(name, "a string");
  return value.As<Napi::String>();
}

std::string Fields::text(const char* name, const std::string& otherwise) const {
  return has(name) ? text(name) : otherwise;
}

std::vector<std::string> Fields::texts(const char* name) const {
  const Napi::Value value = at(name);
  if (!value.IsArray()) refuse(name, "an array of strings");
  const auto array = value.As<Napi::Array>();
  std::vector<std::string> texts;
  for (uint32_t i = 0; i < array.Length(); ++i) {
    const Napi::Value item = array.Get(i);
    if (!item.IsString()) refuse(name, "an array of strings");
    texts.push_back(item.As<Napi::String>());
  }
  return texts;
}

std::vector<int64_t> Fields::integers(const char* name) const {
  if (!has(name)) return {};
  const Napi::Value value = at(name);
  if (!value.IsArray()) refuse(name, "an array of integers");
  const auto array = value.As<Napi::Array>();
  std::vector<int64_t> integers;
  for (uint32_t i = 0; i < array.Length(); ++i) {
    const auto item = as_integer(array.Get(i));
    if (!item) refuse(name, "an array of integers");
    integers.push_back(*item);
  }
  return integers;
}

std::vector<uint32_t> Fields::tokens(const char* name) const {
  if (!has(name)) return {};
  const Napi::Value value = at(name);
  if (!value.IsTypedArray() || value.As<Napi::TypedArray>().TypedArrayType() != napi_uint32_array) {
    refuse(name, "a Uint32Array");
  }
  const auto array = value.As<Napi::Uint32Array>();
  return {array.Data(), array.Data() + array.ElementLength()};
}

Napi::Function Fields::function(const char* name) const {
  if (!has(name)) return {};
  const Napi::Value value = at(name);
  if (!value.IsFunction()) refuse(name, "a function");
  return value.As<Napi::Function>();
}

Fields Fields::object(const char* name) const { return {at(name), call_ + ": " + name}; }

}  // namespace longhaul::node
