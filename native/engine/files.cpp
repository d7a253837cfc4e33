#include "files.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "errors.h"

namespace longhaul {

MappedFile::MappedFile(const std::string& path, const std::string& code) : path_(path) {
  const auto failed = [&](const char* what) {
    return EngineError(code, path + ": " + what + ": " + std::strerror(errno) + "; check the path and its permissions");
  };
  const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) throw failed("cannot be opened");
  struct stat info {};
  const bool known = ::fstat(file, &info) == 0;
  const bool usable = known && S_ISREG(info.st_mode) && info.st_size > 0;
  if (usable) {
    bytes_ = static_cast<size_t>(info.st_size);
    data_ = ::mmap(nullptr, bytes_, PROT_READ, MAP_PRIVATE, file, 0);
  }
  const int error = errno;
  ::close(file);  // the mapping outlives the descriptor
  if (!usable) throw EngineError(code, path + ": empty, or not a regular file; download it again");
  errno = error;
  if (data_ == MAP_FAILED) throw failed("cannot be mapped");
}

MappedFile::~MappedFile() { ::munmap(data_, bytes_); }

std::string read_text(const std::string& path, size_t max_bytes, const std::string& code) {
  const MappedFile file(path, code);
  if (file.bytes() > max_bytes)
    throw EngineError(code, path + ": " + std::to_string(file.bytes()) + " bytes, more than the " +
                                std::to_string(max_bytes) + " that such a file may have");
  return {reinterpret_cast<const char*>(file.data()), file.bytes()};
}

}  // namespace longhaul
