// Runs the native tests: every one whose name contains the first argument (all without one).
#include <chrono>
#include <cstdio>
#include <string>

#include "check.h"

std::vector<check::Test>& check::registry() {
  static std::vector<Test> tests;
  return tests;
}

int main(int argc, char** argv) {
  const std::string pattern = argc > 1 ? argv[1] : "";
  int passed = 0, failed = 0;
  for (const auto& test : check::registry()) {
    if (test.name.find(pattern) == std::string::npos) continue;
    const auto start = std::chrono::steady_clock::now();
    std::string error;
    try {
      test.body();
    } catch (const std::exception& e) {
      error = e.what();
    }
    const auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now() - start);
    std::printf("%s %s (%lld ms)\n", error.empty() ? "ok  " : "FAIL", test.name.c_str(), static_cast<long long>(ms.count()));
    if (!error.empty()) std::printf("     %s\n", error.c_str());
    std::fflush(stdout);
    ++(error.empty() ? passed : failed);
  }
  if (passed + failed == 0) std::printf("no native test matches '%s'\n", pattern.c_str());
  std::printf("native: %d passed, %d failed\n", passed, failed);
  return failed > 0 || passed == 0 ? 1 : 0;
}
