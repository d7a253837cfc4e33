// Aligned host memory, with a limit that turns absurd sizes into an error.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "../backend.h"

namespace longhaul::cpu {

/// `bytes` of uninitialised memory on a 64-byte boundary. Throws EngineError("out_of_memory") when
/// the system refuses, or when the size exceeds the machine's memory: Linux would grant it and kill
/// the process on first use.
class AlignedBuffer final : public Buffer {
 public:
  explicit AlignedBuffer(size_t bytes);
  ~AlignedBuffer() override;
  AlignedBuffer(const AlignedBuffer&) = delete;
  AlignedBuffer& operator=(const AlignedBuffer&) = delete;

  void* data() const override { return data_; }
  size_t bytes() const override { return bytes_; }
  float* floats() const { return static_cast<float*>(data_); }

 private:
  void* data_;
  size_t bytes_;
};

/// What a backend gives to documents, together: weights and the kernels' own working memory are not of it.
class Room : public std::enable_shared_from_this<Room> {
 public:
  /// `limit` in bytes; 0: the machine's memory.
  explicit Room(size_t limit);
  /// As AlignedBuffer. Throws EngineError("out_of_memory") beyond the limit, too.
  BufferPtr allocate(size_t bytes);
  size_t left() const { return limit_ - taken_.load(); }

 private:
  class Part;
  class Share;
  const size_t limit_;
  std::atomic<size_t> taken_{0};
};

/// Working memory that is kept from call to call and only grows. Contents do not survive growth.
class Scratch {
 public:
  float* floats(int64_t count) {
    const size_t bytes = static_cast<size_t>(count) * sizeof(float);
    if (!buffer_ || buffer_->bytes() < bytes) {
      buffer_.reset();  // first, so that old and new are never held together
      buffer_ = std::make_unique<AlignedBuffer>(bytes);
    }
    return buffer_->floats();
  }

 private:
  std::unique_ptr<AlignedBuffer> buffer_;
};

}  // namespace longhaul::cpu
