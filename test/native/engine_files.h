// Files for the checkpoint tests: a folder that removes itself, and safetensors bytes from parts.
#pragma once

#include <filesystem>
#include <fstream>
#include <string>

#include <stdlib.h>

#include "check.h"

namespace longhaul::testing {

class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string pattern = (std::filesystem::temp_directory_path() / "longhaul-test-XXXXXX").string();
    CHECK(::mkdtemp(pattern.data()) != nullptr);
    path_ = pattern;
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;

  std::string operator/(const std::string& name) const { return path_ + "/" + name; }
  const std::string& path() const { return path_; }
  std::string write(const std::string& name, const std::string& bytes) const {
    std::ofstream(*this / name, std::ios::binary) << bytes;
    return *this / name;
  }

 private:
  std::string path_;
};

/// 8 bytes little-endian header size, header, data.
inline std::string safetensors_bytes(const std::string& header, const std::string& data) {
  std::string out;
  for (int i = 0; i < 8; ++i) out += static_cast<char>(header.size() >> (8 * i) & 0xFF);
  return out + header + data;
}

inline bool contains(const std::string& text, const std::string& part) { return text.find(part) != text.npos; }

}  // namespace longhaul::testing

/// The text must hold the part; shows both when it does not.
#define CHECK_CONTAINS(text, part)                                               \
  do {                                                                           \
    const std::string text_ = (text);                                            \
    if (!longhaul::testing::contains(text_, part))                               \
      check::fail(__FILE__, __LINE__, "'" + text_ + "' lacks '" + (part) + "'"); \
  } while (0)
