// A minimal test runner: TEST("a sentence of behaviour") { CHECK(...); CHECK_NEAR(a, b, tolerance); }
#pragma once

#include <cmath>
#include <functional>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

namespace check {

struct Test {
  std::string name;
  std::function<void()> body;
};
std::vector<Test>& registry();

struct Register {
  Register(std::string name, std::function<void()> body) {
    registry().push_back({std::move(name), std::move(body)});
  }
};

struct Failure : std::runtime_error {
  using std::runtime_error::runtime_error;
};

[[noreturn]] inline void fail(const char* file, int line, const std::string& message) {
  throw Failure(std::string(file) + ":" + std::to_string(line) + ": " + message);
}

inline void near(double got, double want, double tolerance, const char* what, const char* file, int line) {
  if (std::abs(got - want) <= tolerance || got == want) return;  // == : equal infinities
  std::ostringstream text;
  text << what << ": got " << got << ", want " << want << " within " << tolerance;
  fail(file, line, text.str());
}

/// Runs `body`, which must throw E whose code() is `code`; returns its message.
template <class E>
std::string throws(const std::string& code, const std::function<void()>& body, const char* file, int line) {
  try {
    body();
  } catch (const E& error) {
    if (error.code() != code) fail(file, line, "threw code '" + error.code() + "', want '" + code + "': " + error.what());
    return error.what();
  }
  fail(file, line, "did not throw, want code '" + code + "'");
}

}  // namespace check

#define CHECK_JOIN_(a, b) a##b
#define CHECK_JOIN(a, b) CHECK_JOIN_(a, b)
#define TEST(name)                                                                     \
  static void CHECK_JOIN(test_, __LINE__)();                                           \
  static check::Register CHECK_JOIN(register_, __LINE__)(name, CHECK_JOIN(test_, __LINE__)); \
  static void CHECK_JOIN(test_, __LINE__)()
#define CHECK(condition) \
  do { if (!(condition)) check::fail(__FILE__, __LINE__, "CHECK(" #condition ") is false"); } while (0)
#define CHECK_NEAR(got, want, tolerance) check::near(got, want, tolerance, #got, __FILE__, __LINE__)
#define CHECK_THROWS(type, code, ...) check::throws<type>(code, [&] { __VA_ARGS__; }, __FILE__, __LINE__)
