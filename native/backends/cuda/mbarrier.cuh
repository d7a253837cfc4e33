// Shared-memory barriers that count arrivals and bytes (mbarrier), and named barriers.
#pragma once

#include <cstdint>

namespace longhaul::cuda {

/// Address of shared memory as the instructions below want it.
__device__ inline uint32_t shared_address(const void* pointer) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
}

__device__ inline void barrier_init(uint32_t barrier, uint32_t arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals));
}

/// Makes initialised barriers visible to the copy engine.
__device__ inline void barrier_init_fence() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }

/// One arrival that also announces bytes which the copy engine will deliver.
__device__ inline void barrier_expect(uint32_t barrier, uint32_t bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
}

__device__ inline void barrier_arrive(uint32_t barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}

/// How long one attempt may sleep.
constexpr uint32_t kWaitNanoseconds = 10'000'000;

__device__ inline bool barrier_try_wait(uint32_t barrier, uint32_t parity) {
  uint32_t done;
  asm volatile(
      "{\n"
      ".reg .pred p;\n"
      "mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2, %3;\n"
      "selp.u32 %0, 1, 0, p;\n"
      "}"
      : "=r"(done)
      : "r"(barrier), "r"(parity), "r"(kWaitNanoseconds)
      : "memory");
  return done != 0;
}

/// Waits until the phase of that parity has completed. With LONGHAUL_TRAP_CYCLES a wait that never
/// ends traps instead.
__device__ inline void barrier_wait(uint32_t barrier, uint32_t parity) {
#ifdef LONGHAUL_TRAP_CYCLES
  const long long start = clock64();
  while (!barrier_try_wait(barrier, parity))
    if (clock64() - start > LONGHAUL_TRAP_CYCLES) __trap();
#else
  while (!barrier_try_wait(barrier, parity)) {}
#endif
}

/// A named barrier of so many threads.
__device__ inline void named_sync(int id, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

}  // namespace longhaul::cuda
