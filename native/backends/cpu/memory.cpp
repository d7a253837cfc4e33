#include "memory.h"

#include <unistd.h>

#include <new>
#include <string>

#include "../../engine/errors.h"

namespace longhaul::cpu {
namespace {

constexpr std::align_val_t kAlignment{64};

size_t machine_memory() {
  static const size_t bytes =
      static_cast<size_t>(sysconf(_SC_PHYS_PAGES)) * static_cast<size_t>(sysconf(_SC_PAGESIZE));
  return bytes;
}

}  // namespace

AlignedBuffer::AlignedBuffer(size_t bytes) : data_(nullptr), bytes_(bytes) {
  const size_t whole = bytes == 0 ? 1 : bytes;
  if (whole <= machine_memory()) data_ = ::operator new(whole, kAlignment, std::nothrow);
  if (data_ == nullptr)
    throw EngineError("out_of_memory", "cannot allocate " + std::to_string(bytes) + " bytes; the machine has " +
                                           std::to_string(machine_memory()) +
                                           " bytes in all: use more ranks or a shorter document");
}

AlignedBuffer::~AlignedBuffer() { ::operator delete(data_, kAlignment); }

}  // namespace longhaul::cpu
