// Memory of one GPU, ordered by one stream; pinned host memory; and copies between the two.
#pragma once

#include <cuda_runtime_api.h>

#include <memory>
#include <string>
#include <unordered_map>

#include "../backend.h"

namespace longhaul::cuda {

/// A GPU, one stream on it and a pool of its memory. Every thread that works with them calls `use` first.
class Device {
 public:
  explicit Device(int index);
  ~Device();
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;

  void use() const;
  cudaStream_t stream() const { return stream_; }
  int multiprocessors() const { return multiprocessors_; }
  const std::string& name() const { return name_; }
  /// 16 bytes that no other GPU has.
  const std::string& uuid() const { return uuid_; }

  /// Uninitialised, on a 256-byte boundary, usable by whatever is enqueued later. Throws EngineError("out_of_memory").
  void* allocate(size_t bytes);
  /// Bytes that could be allocated now: free ones, and those that the pool keeps.
  size_t room() const;
  /// Gives memory back once everything enqueued so far has run.
  void release(void* data) noexcept;

 private:
  int index_, multiprocessors_ = 0;
  size_t total_ = 0;
  std::string name_, uuid_;
  cudaStream_t stream_ = nullptr;
  cudaMemPool_t pool_ = nullptr;
};
using DevicePtr = std::shared_ptr<Device>;

class DeviceBuffer final : public Buffer {
 public:
  DeviceBuffer(DevicePtr device, size_t bytes)
      : device_(std::move(device)), bytes_(bytes), data_(device_->allocate(bytes)) {}
  ~DeviceBuffer() override { device_->release(data_); }
  DeviceBuffer(const DeviceBuffer&) = delete;
  DeviceBuffer& operator=(const DeviceBuffer&) = delete;

  void* data() const override { return data_; }
  size_t bytes() const override { return bytes_; }

 private:
  DevicePtr device_;
  size_t bytes_;
  void* data_;
};

/// Page-locked host memory, which the GPU copies at full speed.
class PinnedBuffer final : public Buffer {
 public:
  explicit PinnedBuffer(size_t bytes);
  ~PinnedBuffer() override;
  PinnedBuffer(const PinnedBuffer&) = delete;
  PinnedBuffer& operator=(const PinnedBuffer&) = delete;

  void* data() const override { return data_; }
  size_t bytes() const override { return bytes_; }

 private:
  void* data_ = nullptr;
  size_t bytes_;
};

/// Device memory that is kept from call to call and only grows. Contents do not survive growth.
class Scratch {
 public:
  void* bytes(const DevicePtr& device, size_t count) {
    if (!buffer_ || buffer_->bytes() < count) {
      buffer_.reset();  // first, so that old and new are never held together
      buffer_ = std::make_unique<DeviceBuffer>(device, count);
    }
    return buffer_->data();
  }

 private:
  std::unique_ptr<DeviceBuffer> buffer_;
};

}  // namespace longhaul::cuda
