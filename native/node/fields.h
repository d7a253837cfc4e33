// Reads the fields of an options object; what is missing or has the wrong type is
// EngineError("invalid_argument") naming the field.
#pragma once

#include <napi.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace longhaul::node {

class Fields {
 public:
  Fields(const Napi::Value& value, std::string call);

  bool has(const char* name) const;  // neither undefined nor null
  int64_t integer(const char* name) const;
  int64_t integer(const char* name, int64_t otherwise) const;
  double number(const char* name, double otherwise) const;
  uint64_t seed(const char* name) const;  // a number or a bigint; 0 when missing
  bool boolean(const char* name) const;   // false when missing
  std::string text(const char* name) const;
  std::string text(const char* name, const std::string& otherwise) const;
  std::vector<std::string> texts(const char* name) const;
  std::vector<int64_t> integers(const char* name) const;  // empty when missing
  std::vector<uint32_t> tokens(const char* name) const;   // a Uint32Array; empty when missing
  Napi::Function function(const char* name) const;        // empty when missing
  Fields object(const char* name) const;

 private:
  Napi::Value at(const char* name) const;
  [[noreturn]] void refuse(const char* name, const char* wanted) const;

  Napi::Object object_;
  std::string call_;
};

}  // namespace longhaul::node
