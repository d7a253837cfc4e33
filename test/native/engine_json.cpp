#include "check.h"
#include "engine/json.h"

using namespace longhaul;

namespace {

bool refused(const std::string& text) {
  try {
    Json::parse(text, 1 << 20);
    return false;
  } catch (const JsonError&) {
    return true;
  }
}

}  // namespace

TEST("json reads every kind of value") {
  const Json json = Json::parse(R"( {"a": [1, -2.5e1, true, false, null], "b": {"c": "x\n\u00e9\ud83d\ude00\/"}, "n": 9007199254740993} )", 1000);
  const Json::Array& a = *json.find("a")->array();
  CHECK(a.size() == 5 && a[0].integer() == 1 && a[1].number() == -25.0 && !a[1].integer() && a[2].boolean() == true && a[4].is_null());
  CHECK(*json.find("b")->find("c")->string() == "x\n\xC3\xA9\xF0\x9F\x98\x80/");
  CHECK(json.find("n")->integer() == 9007199254740993);
  CHECK(!json.find("missing") && !a[0].find("a"));
}

TEST("json refuses what RFC 8259 does not allow") {
  for (const char* text : {"", " ", "{", "[1,]", "{\"a\":1,}", "{\"a\" 1}", "{a:1}", "01", "-", "1.", ".5", "1e", "+1", "NaN", "Infinity",
                           "1e999", "tru", "nulll", "'a'", "\"a", "\"\\x\"", "\"\\u12\"", "\"\\u12G4\"", "\"\\ud800\"", "\"\\udc00\"",
                           "\"\\ud800\\u0041\"", "\"\t\"", "1 2", "{} x", "[1] ]", "\"\xC0\x80\"", "\"\xED\xA0\x80\"", "\"\xF5\x80\x80\x80\"",
                           "\"\xE2\x82\"", "\"\x80\""})
    if (!refused(text)) check::fail(__FILE__, __LINE__, std::string("accepted ") + text);
}

TEST("json refuses repeated keys, deep nesting and large texts") {
  CHECK(refused(R"({"a": 1, "a": 2})"));
  CHECK(refused(R"({"a": 1, "\u0061": 2})"));
  CHECK(refused(std::string(100'000, '[')));
  CHECK(!refused(std::string(32, '[') + std::string(32, ']')));
  CHECK(refused(std::string(34, '[') + std::string(34, ']')));
  CHECK(refused(std::string((1 << 20) + 1, ' ')));
}
