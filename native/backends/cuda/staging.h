// Copies between ordinary host memory and the GPU, through pinned buffers that take turns.
#pragma once

#include <array>
#include <functional>
#include <memory>
#include <thread>

#include "../cpu/thread_pool.h"
#include "memory.h"

namespace longhaul::cuda {

/// While the GPU copies one slot, threads of the host fill or empty the next ones. Mapped files are
/// read by those threads, which keeps several reads of the disk in flight.
class Staging {
 public:
  explicit Staging(DevicePtr device);
  ~Staging();
  Staging(const Staging&) = delete;
  Staging& operator=(const Staging&) = delete;

  /// Returns when `host` has been read, or at once for pinned memory; the copy is in stream order.
  void upload(void* device, const void* host, size_t bytes);
  /// Returns when `host` holds the bytes.
  void download(void* host, const void* device, size_t bytes);

 private:
  static constexpr size_t kSmall = 256 << 10;  // slots of a ring for tokens, positions and logits
  static constexpr size_t kLarge = 16 << 20;   // for weights
  static constexpr size_t kSlots = 4;
  struct Slot {
    std::unique_ptr<PinnedBuffer> buffer;
    cudaEvent_t done = nullptr;  // the last copy from or to it
  };
  struct Ring {
    std::array<Slot, kSlots> slots;
    size_t next = 0;
  };
  static bool pinned(const void* host);
  Slot& take(Ring& ring, size_t size);
  Ring& ring_for(size_t bytes) { return bytes <= kSmall ? small_ : large_; }
  void copy(void* to, const void* from, size_t bytes);

  DevicePtr device_;
  Ring small_, large_;
  std::unique_ptr<cpu::ThreadPool> threads_;
};

}  // namespace longhaul::cuda
