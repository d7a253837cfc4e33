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

}  // namespace longhaul::cpu
