#include "memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <new>
#include <string>

#include "../../engine/errors.h"

namespace longhaul::cpu {
namespace {

// Caches and weights are read in long streams, which small pages interrupt every 4 KiB.
constexpr size_t kLargePage = size_t{2} << 20;

std::align_val_t alignment(size_t bytes) { return std::align_val_t{bytes >= kLargePage ? kLargePage : 64}; }

size_t machine_memory() {
  static const size_t bytes =
      static_cast<size_t>(sysconf(_SC_PHYS_PAGES)) * static_cast<size_t>(sysconf(_SC_PAGESIZE));
  return bytes;
}

}  // namespace

AlignedBuffer::AlignedBuffer(size_t bytes) : data_(nullptr), bytes_(bytes) {
  const size_t whole = bytes == 0 ? 1 : bytes;
  if (whole <= machine_memory()) data_ = ::operator new(whole, alignment(bytes), std::nothrow);
  if (data_ == nullptr)
    throw EngineError("out_of_memory", "cannot allocate " + std::to_string(bytes) + " bytes; the machine has " +
                                           std::to_string(machine_memory()) +
                                           " bytes in all: use more ranks or a shorter document");
#if defined(MADV_HUGEPAGE)
  if (bytes >= kLargePage) madvise(data_, bytes / kLargePage * kLargePage, MADV_HUGEPAGE);  // a wish
#endif
}

AlignedBuffer::~AlignedBuffer() { ::operator delete(data_, alignment(bytes_)); }

Room::Room(size_t limit) : limit_(limit == 0 ? machine_memory() : limit) {}

/// Bytes of a room, taken and given back.
class Room::Part {
 public:
  Part(std::shared_ptr<Room> room, size_t bytes) : room_(std::move(room)), bytes_(bytes) {
    size_t taken = room_->taken_.load();
    do {
      if (bytes > room_->limit_ - taken)
        throw EngineError("out_of_memory", "cannot allocate " + std::to_string(bytes) + " bytes for the document; " +
                                               std::to_string(taken) + " of " + std::to_string(room_->limit_) +
                                               " are taken: use more ranks or a shorter document");
    } while (!room_->taken_.compare_exchange_weak(taken, taken + bytes));
  }
  ~Part() { room_->taken_ -= bytes_; }
  Part(const Part&) = delete;
  Part& operator=(const Part&) = delete;

 private:
  std::shared_ptr<Room> room_;
  size_t bytes_;
};

class Room::Share final : public Buffer {
 public:
  Share(std::shared_ptr<Room> room, size_t bytes) : part_(std::move(room), bytes), memory_(bytes) {}

  void* data() const override { return memory_.data(); }
  size_t bytes() const override { return memory_.bytes(); }

 private:
  Part part_;  // first, so that what is refused was not allocated
  AlignedBuffer memory_;
};

BufferPtr Room::allocate(size_t bytes) { return std::make_shared<Share>(shared_from_this(), bytes); }

}  // namespace longhaul::cpu
