#include "json.h"

#include <cctype>
#include <charconv>
#include <locale>
#include <sstream>

namespace longhaul {

class JsonParser {
 public:
  explicit JsonParser(std::string_view text) : text_(text) {}

  Json document() {
    Json value = parse_value(0);
    skip_space();
    if (at_ != text_.size()) fail("text after the value");
    return value;
  }

 private:
  static constexpr int kMaxDepth = 32;
  static constexpr int kMaxValues = 4'000'000;

  [[noreturn]] void fail(const std::string& what) const {
    throw JsonError("JSON: " + what + " at byte " + std::to_string(at_));
  }
  bool more() const { return at_ < text_.size(); }
  char peek() const { return more() ? text_[at_] : '\0'; }
  bool take(char c) {
    if (!more() || text_[at_] != c) return false;
    ++at_;
    return true;
  }
  void expect(char c) {
    if (!take(c)) fail(std::string("expected '") + c + "'");
  }
  void skip_space() {
    while (more() && (peek() == ' ' || peek() == '\t' || peek() == '\n' || peek() == '\r')) ++at_;
  }
  void word(std::string_view expected) {
    if (text_.substr(at_, expected.size()) != expected) fail("unknown word");
    at_ += expected.size();
  }

  Json parse_value(int depth) {
    if (depth > kMaxDepth) fail("nesting deeper than 32");
    if (++values_ > kMaxValues) fail("more than 4 million values");
    Json out;
    skip_space();
    switch (peek()) {
      case '{': out.value_ = parse_object(depth); break;
      case '[': out.value_ = parse_array(depth); break;
      case '"': out.value_ = parse_string(); break;
      case 't':
        word("true");
        out.value_ = true;
        break;
      case 'f':
        word("false");
        out.value_ = false;
        break;
      case 'n': word("null"); break;
      default: parse_number(out);
    }
    return out;
  }

  Json::Object parse_object(int depth) {
    Json::Object out;
    expect('{');
    skip_space();
    if (take('}')) return out;
    do {
      skip_space();
      std::string key = parse_string();
      skip_space();
      expect(':');
      Json value = parse_value(depth + 1);
      if (out.contains(key)) fail("key '" + key + "' appears twice in one object, the second time");
      out.emplace(std::move(key), std::move(value));
      skip_space();
    } while (take(','));
    expect('}');
    return out;
  }

  Json::Array parse_array(int depth) {
    Json::Array out;
    expect('[');
    skip_space();
    if (take(']')) return out;
    do {
      out.push_back(parse_value(depth + 1));
      skip_space();
    } while (take(','));
    expect(']');
    return out;
  }

  void digits() {
    if (!std::isdigit(static_cast<unsigned char>(peek()))) fail("expected a digit");
    while (std::isdigit(static_cast<unsigned char>(peek()))) ++at_;
  }

  void parse_number(Json& out) {
    const size_t start = at_;
    bool whole = true;
    take('-');
    if (!take('0')) digits();
    if (take('.')) whole = false, digits();
    if (peek() == 'e' || peek() == 'E') {
      whole = false;
      ++at_;
      if (!take('+')) take('-');
      digits();
    }
    const std::string_view text = text_.substr(start, at_ - start);
    int64_t integer = 0;
    if (whole && std::from_chars(text.data(), text.data() + text.size(), integer).ec == std::errc()) {
      out.value_ = integer;
      return;
    }
    double real = 0;
    std::istringstream in{std::string(text)};
    in.imbue(std::locale::classic());  // a decimal point is '.', whatever the process's locale
    if (!(in >> real)) fail("number out of range");
    out.value_ = real;
  }

  unsigned hex4() {
    unsigned code = 0;
    const char* first = text_.data() + at_;
    if (text_.size() - at_ < 4) fail("cut \\u escape");
    const auto [end, error] = std::from_chars(first, first + 4, code, 16);
    if (error != std::errc() || end != first + 4 || *first == '-') fail("bad \\u escape");
    at_ += 4;
    return code;
  }

  void append_escape(std::string& out) {
    if (!more()) fail("unterminated string");
    const char c = text_[at_++];
    static constexpr std::string_view kNames = "\"\\/bfnrt", kValues = "\"\\/\b\f\n\r\t";
    if (const size_t i = kNames.find(c); i != kNames.npos) {
      out += kValues[i];
      return;
    }
    if (c != 'u') fail("unknown escape");
    unsigned code = hex4();
    if (code >= 0xDC00 && code < 0xE000) fail("lone low surrogate");
    if (code >= 0xD800 && code < 0xDC00) {
      if (!take('\\') || !take('u')) fail("lone high surrogate");
      const unsigned low = hex4();
      if (low < 0xDC00 || low >= 0xE000) fail("lone high surrogate");
      code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
    }
    append_utf8(out, code);
  }

  static void append_utf8(std::string& out, unsigned code) {
    const auto put = [&](unsigned byte) { out += static_cast<char>(byte); };
    if (code < 0x80) return put(code);
    if (code < 0x800) return put(0xC0 | code >> 6), put(0x80 | (code & 0x3F));
    if (code < 0x10000) return put(0xE0 | code >> 12), put(0x80 | (code >> 6 & 0x3F)), put(0x80 | (code & 0x3F));
    put(0xF0 | code >> 18), put(0x80 | (code >> 12 & 0x3F)), put(0x80 | (code >> 6 & 0x3F)), put(0x80 | (code & 0x3F));
  }

  /// Copies one character of two or more bytes; refuses overlong forms, surrogates and > U+10FFFF.
  void append_multibyte(std::string& out) {
    const size_t start = at_;
    const auto lead = static_cast<unsigned char>(text_[at_++]);
    const int extra = lead >= 0xF0 ? 3 : lead >= 0xE0 ? 2 : 1;
    unsigned code = lead & (0x3F >> extra);
    if (lead < 0xC2 || lead > 0xF4) fail("invalid UTF-8");
    for (int i = 0; i < extra; ++i) {
      const auto byte = static_cast<unsigned char>(peek());
      if ((byte & 0xC0) != 0x80) fail("invalid UTF-8");
      code = code << 6 | (byte & 0x3F);
      ++at_;
    }
    if ((extra == 2 && code < 0x800) || (extra == 3 && code < 0x10000) || code > 0x10FFFF ||
        (code >= 0xD800 && code < 0xE000))
      fail("invalid UTF-8");
    out.append(text_.substr(start, at_ - start));
  }

  std::string parse_string() {
    std::string out;
    expect('"');
    while (true) {
      if (!more()) fail("unterminated string");
      const auto c = static_cast<unsigned char>(text_[at_]);
      if (take('"')) return out;
      if (take('\\')) append_escape(out);
      else if (c < 0x20) fail("control character in a string");
      else if (c < 0x80) out += text_[at_++];
      else append_multibyte(out);
    }
  }

  std::string_view text_;
  size_t at_ = 0;
  int values_ = 0;
};

Json Json::parse(std::string_view text, size_t max_bytes) {
  if (text.size() > max_bytes)
    throw JsonError("JSON: " + std::to_string(text.size()) + " bytes, more than the " + std::to_string(max_bytes) +
                    " allowed");
  return JsonParser(text).document();
}

std::optional<bool> Json::boolean() const {
  const bool* value = std::get_if<bool>(&value_);
  return value ? std::optional(*value) : std::nullopt;
}

std::optional<int64_t> Json::integer() const {
  const int64_t* value = std::get_if<int64_t>(&value_);
  return value ? std::optional(*value) : std::nullopt;
}

std::optional<double> Json::number() const {
  if (const auto whole = integer()) return static_cast<double>(*whole);
  const double* value = std::get_if<double>(&value_);
  return value ? std::optional(*value) : std::nullopt;
}

const Json* Json::find(std::string_view key) const {
  const Object* members = object();
  if (!members) return nullptr;
  const auto at = members->find(key);
  return at == members->end() ? nullptr : &at->second;
}

std::string Json::describe() const {
  if (is_null()) return "null";
  if (const auto value = boolean()) return *value ? "true" : "false";
  if (const auto value = integer()) return std::to_string(*value);
  if (const auto value = number()) {
    std::ostringstream out;
    out << *value;
    return out.str();
  }
  if (string()) {
    std::string text = std::string("'").append(*string(), 0, 80).append("'");
    for (char& c : text)
      if (static_cast<unsigned char>(c) < 0x20) c = '?';  // a NUL would cut the message
    return text;
  }
  return array() ? "a list" : "an object";
}

}  // namespace longhaul
