// Copies of tiles between global and shared memory by the copy engine (TMA).
//
// A matrix of rows of heads is described as [columns / 64][rows][64]: a box of 64 columns is 128
// bytes wide, which is what the 128-byte swizzle of the tensor cores wants, and one copy brings
// several boxes. Rows past the end arrive as zeros and are not written.
#pragma once

#include <cuda.h>

#include <cstdint>

namespace longhaul::cuda {

/// L2 policies, as createpolicy.fractional makes them.
constexpr uint64_t kEvictFirst = 0x12F0000000000000ull;
constexpr uint64_t kEvictLast = 0x14F0000000000000ull;

/// Loads the box at (row, box of 64 columns) to `to` and completes its bytes at `barrier`.
__device__ inline void tma_load(uint32_t to, const CUtensorMap* map, int row, int column_box, uint32_t barrier,
                                uint64_t policy) {
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint"
      " [%0], [%1, {%2, %3, %4}], [%5], %6;" ::"r"(to),
      "l"(map), "r"(0), "r"(row), "r"(column_box), "r"(barrier), "l"(policy)
      : "memory");
}

/// Stores the box; the caller commits. Shared memory written by ordinary stores needs tma_store_fence
/// by each writer and a barrier first.
__device__ inline void tma_store(const CUtensorMap* map, uint32_t from, int row, int column_box) {
  asm volatile("cp.async.bulk.tensor.3d.global.shared::cta.bulk_group [%0, {%1, %2, %3}], [%4];" ::"l"(map), "r"(0),
               "r"(row), "r"(column_box), "r"(from)
               : "memory");
}
__device__ inline void tma_store_fence() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }
__device__ inline void tma_store_commit() { asm volatile("cp.async.bulk.commit_group;" ::: "memory"); }
/// Waits until committed stores have read their shared memory.
__device__ inline void tma_store_wait_read() { asm volatile("cp.async.bulk.wait_group.read 0;" ::: "memory"); }
/// Waits until committed stores are done.
__device__ inline void tma_store_wait() { asm volatile("cp.async.bulk.wait_group 0;" ::: "memory"); }

}  // namespace longhaul::cuda
