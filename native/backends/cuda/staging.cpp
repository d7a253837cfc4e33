#include "staging.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "check.h"

namespace longhaul::cuda {
namespace {

constexpr int kMostThreads = 8;           // of copying: more do not make one memory faster
constexpr size_t kPiece = 1 << 20;        // bytes of one thread's turn
constexpr size_t kWorthThreads = 2 << 20;
constexpr size_t kAhead = 128 << 20;      // of a mapped file, asked of the disk before it is needed

/// Lets the kernel read a mapped file ahead of the threads that copy it; means nothing for other memory.
void read_ahead(const void* from, size_t bytes) {
  static const auto page = static_cast<uintptr_t>(::sysconf(_SC_PAGESIZE));
  const auto begin = reinterpret_cast<uintptr_t>(from) / page * page, end = reinterpret_cast<uintptr_t>(from) + bytes;
  ::madvise(reinterpret_cast<void*>(begin), end - begin, MADV_WILLNEED);
}

}  // namespace

Staging::Staging(DevicePtr device) : device_(std::move(device)) {}

Staging::~Staging() {
  for (Ring* ring : {&small_, &large_})
    for (Slot& slot : ring->slots)
      if (slot.done) cudaEventSynchronize(slot.done), cudaEventDestroy(slot.done);
}

/// The ring's next slot, once the GPU is through with it.
Staging::Slot& Staging::take(Ring& ring, size_t size) {
  Slot& slot = ring.slots[ring.next++ % kSlots];
  if (!slot.buffer) {
    slot.buffer = std::make_unique<PinnedBuffer>(size);
    check(cudaEventCreateWithFlags(&slot.done, cudaEventDisableTiming), "making an event");
  } else {
    check(cudaEventSynchronize(slot.done), "waiting for a copy");
  }
  return slot;
}

void Staging::copy(void* to, const void* from, size_t bytes) {
  if (bytes < kWorthThreads) {
    std::memcpy(to, from, bytes);
    return;
  }
  if (!threads_) {
    const int cores = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
    threads_ = std::make_unique<cpu::ThreadPool>(std::min(kMostThreads, cores));
  }
  threads_->run(static_cast<int64_t>((bytes + kPiece - 1) / kPiece), true, [&](int64_t i, int) {
    const size_t at = static_cast<size_t>(i) * kPiece;
    std::memcpy(static_cast<std::byte*>(to) + at, static_cast<const std::byte*>(from) + at, std::min(kPiece, bytes - at));
  });
}

bool Staging::pinned(const void* host) {
  cudaPointerAttributes attributes{};
  return cudaPointerGetAttributes(&attributes, host) == cudaSuccess && attributes.type == cudaMemoryTypeHost;
}

void Staging::upload(void* device, const void* host, size_t bytes) {
  if (bytes == 0) return;
  if (pinned(host)) return check(cudaMemcpyAsync(device, host, bytes, cudaMemcpyHostToDevice, device_->stream()), "copying to the GPU");
  Ring& ring = ring_for(bytes);
  const size_t size = bytes <= kSmall ? kSmall : kLarge;
  const auto* from = static_cast<const std::byte*>(host);
  if (bytes > kLarge) read_ahead(from, std::min(bytes, kAhead));
  for (size_t at = 0; at < bytes; at += size) {
    const size_t count = std::min(size, bytes - at);
    if (bytes > kLarge && at + kAhead < bytes) read_ahead(from + at + kAhead, std::min(size, bytes - at - kAhead));
    Slot& slot = take(ring, size);
    copy(slot.buffer->data(), from + at, count);
    check(cudaMemcpyAsync(static_cast<std::byte*>(device) + at, slot.buffer->data(), count, cudaMemcpyHostToDevice,
                          device_->stream()), "copying to the GPU");
    check(cudaEventRecord(slot.done, device_->stream()), "recording an event");
  }
}

void Staging::download(void* host, const void* device, size_t bytes) {
  if (bytes == 0) return;
  if (pinned(host)) {
    check(cudaMemcpyAsync(host, device, bytes, cudaMemcpyDeviceToHost, device_->stream()), "copying from the GPU");
    return check(cudaStreamSynchronize(device_->stream()), "copying from the GPU");
  }
  Ring& ring = ring_for(bytes);
  const size_t size = bytes <= kSmall ? kSmall : kLarge;
  struct Arriving {
    Slot* slot;
    size_t at, count;
  };
  std::array<Arriving, kSlots> arriving;
  size_t begun = 0, finished = 0;
  const auto finish = [&] {
    const Arriving& piece = arriving[finished++ % kSlots];
    check(cudaEventSynchronize(piece.slot->done), "copying from the GPU");
    copy(static_cast<std::byte*>(host) + piece.at, piece.slot->buffer->data(), piece.count);
  };
  for (size_t at = 0; at < bytes; at += size) {
    if (begun - finished == kSlots) finish();
    const size_t count = std::min(size, bytes - at);
    Slot& slot = take(ring, size);
    check(cudaMemcpyAsync(slot.buffer->data(), static_cast<const std::byte*>(device) + at, count, cudaMemcpyDeviceToHost,
                          device_->stream()), "copying from the GPU");
    check(cudaEventRecord(slot.done, device_->stream()), "recording an event");
    arriving[begun++ % kSlots] = {&slot, at, count};
  }
  while (finished < begun) finish();
}

}  // namespace longhaul::cuda
