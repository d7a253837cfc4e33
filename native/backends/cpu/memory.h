// Aligned host memory, with a limit that turns absurd sizes into an error.
#pragma once

#include <cstddef>
#include <cstdint>

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
