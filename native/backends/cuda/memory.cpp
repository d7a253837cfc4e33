#include "memory.h"

#include <algorithm>

#include "check.h"

namespace longhaul::cuda {
namespace {

/// Freed memory up to this much stays with the process, so that a question does not wait for the driver.
constexpr uint64_t kKept = 256 << 20;

}  // namespace

Device::Device(int index) : index_(index) {
  use();
  cudaDeviceProp properties;
  check(cudaGetDeviceProperties(&properties, index), "reading the GPU's properties");
  name_ = properties.name;
  uuid_.assign(properties.uuid.bytes, sizeof properties.uuid.bytes);
  total_ = properties.totalGlobalMem;
  multiprocessors_ = properties.multiProcessorCount;
  cudaMemPoolProps pool{};
  pool.allocType = cudaMemAllocationTypePinned;
  pool.location = {cudaMemLocationTypeDevice, index};
  check(cudaMemPoolCreate(&pool_, &pool), "making a memory pool");
  uint64_t kept = kKept;
  check(cudaMemPoolSetAttribute(pool_, cudaMemPoolAttrReleaseThreshold, &kept), "setting up the memory pool");
  check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "making a stream");
}

Device::~Device() {
  cudaSetDevice(index_);
  if (stream_) cudaStreamSynchronize(stream_), cudaStreamDestroy(stream_);
  if (pool_) cudaMemPoolDestroy(pool_);
}

// Asked every time: another part of this process (NCCL, a second copy of this library) may have chosen another GPU.
void Device::use() const { check(cudaSetDevice(index_), "choosing the GPU"); }

void* Device::allocate(size_t bytes) {
  use();
  void* data = nullptr;
  const size_t size = std::max<size_t>(bytes, 256);
  const cudaError_t status = size > total_ ? cudaErrorMemoryAllocation : cudaMallocFromPoolAsync(&data, size, pool_, stream_);
  if (status == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    size_t free = 0, total = 0;
    cudaMemGetInfo(&free, &total);
    throw EngineError("out_of_memory", std::to_string(bytes) + " bytes do not fit into the GPU's memory (" +
                                           std::to_string(free) + " of " + std::to_string(total) +
                                           " are free); use more ranks, or a smaller model or document");
  }
  check(status, "allocating GPU memory");
  return data;
}

size_t Device::room() const {
  use();
  check(cudaStreamSynchronize(stream_), "waiting for the GPU");  // what was given back is free then
  size_t free = 0, total = 0;
  uint64_t reserved = 0, used = 0;
  check(cudaMemGetInfo(&free, &total), "asking for the GPU's memory");
  check(cudaMemPoolGetAttribute(pool_, cudaMemPoolAttrReservedMemCurrent, &reserved), "asking the memory pool");
  check(cudaMemPoolGetAttribute(pool_, cudaMemPoolAttrUsedMemCurrent, &used), "asking the memory pool");
  return free + static_cast<size_t>(reserved - used);
}

void Device::release(void* data) noexcept {
  cudaSetDevice(index_);
  cudaFreeAsync(data, stream_);
}

PinnedBuffer::PinnedBuffer(size_t bytes) : bytes_(bytes) {
  check(cudaHostAlloc(&data_, std::max<size_t>(bytes, 64), cudaHostAllocDefault), "allocating pinned host memory");
}

PinnedBuffer::~PinnedBuffer() { cudaFreeHost(data_); }

}  // namespace longhaul::cuda
