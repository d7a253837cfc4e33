// A strict JSON reader (RFC 8259) for config.json, safetensors headers and shard indexes.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace longhaul {

/// What is wrong with the text, and at which byte. Callers add the file's name.
struct JsonError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// One JSON value. Accessors return nothing for a value of another kind, never a conversion.
class Json {
 public:
  using Array = std::vector<Json>;
  using Object = std::map<std::string, Json, std::less<>>;

  /// Refuses with JsonError: more than `max_bytes`, nesting deeper than 32, more than 4 million
  /// values (bounded memory for a hostile file), a repeated key, invalid UTF-8, trailing text.
  static Json parse(std::string_view text, size_t max_bytes);

  bool is_null() const { return std::holds_alternative<std::monostate>(value_); }
  const Object* object() const { return std::get_if<Object>(&value_); }
  const Array* array() const { return std::get_if<Array>(&value_); }
  const std::string* string() const { return std::get_if<std::string>(&value_); }
  std::optional<bool> boolean() const;
  std::optional<int64_t> integer() const;  // written without fraction and exponent, within int64
  std::optional<double> number() const;    // any number
  /// Member of an object; null when it is absent, or this is no object.
  const Json* find(std::string_view key) const;
  /// The value as short text for a message; containers as "an object" or "a list".
  std::string describe() const;

 private:
  friend class JsonParser;
  std::variant<std::monostate, bool, int64_t, double, std::string, Array, Object> value_;
};

}  // namespace longhaul
