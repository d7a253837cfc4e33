// Reading of checkpoint files: small ones as text, large ones mapped.
#pragma once

#include <cstddef>
#include <memory>
#include <string>

namespace longhaul {

/// A read-only mapping of a whole file; unmapped with the last owner.
class MappedFile {
 public:
  /// Throws EngineError(code) naming the file when it cannot be opened, is no regular file, or
  /// is empty.
  MappedFile(const std::string& path, const std::string& code);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const std::string& path() const { return path_; }
  const std::byte* data() const { return static_cast<const std::byte*>(data_); }
  size_t bytes() const { return bytes_; }

 private:
  std::string path_;
  void* data_ = nullptr;
  size_t bytes_ = 0;
};

/// The file's text. Throws EngineError(code) when it cannot be read or is larger than `max_bytes`.
std::string read_text(const std::string& path, size_t max_bytes, const std::string& code);

}  // namespace longhaul
