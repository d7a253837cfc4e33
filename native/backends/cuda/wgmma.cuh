// Warpgroup matrix products (wgmma) in bfloat16 with float32 accumulators.
//
// Shapes are m64 nN k16. Accumulator d[4*j + 2*h + e] of a thread is row 16*warp + lane/4 + 8*h,
// column 8*j + 2*(lane % 4) + e. The first operand comes from registers, the second from shared memory:
// tiles of 64 columns (128 bytes) in the 128-byte swizzle, aligned to 1024 bytes, one after another.
#pragma once

#include <cstdint>

namespace longhaul::cuda {

/// Descriptor of the second operand's tile. K-major: rows of the tile are the product's columns (K in
/// Q K^T); `leading` is unused. MN-major: rows of the tile run along the inner dimension (V in P V);
/// `leading` is the distance in bytes from 64 columns to the next 64.
__device__ inline uint64_t wgmma_descriptor(uint32_t address, uint32_t leading) {
  constexpr uint64_t kSwizzle128 = 1ull << 62, kEightRows = static_cast<uint64_t>(1024 >> 4) << 32;
  return kSwizzle128 | kEightRows | (static_cast<uint64_t>(leading >> 4) << 16) | ((address & 0x3FFFF) >> 4);
}

/// Orders register and shared-memory accesses before the first wgmma of a batch.
__device__ inline void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ inline void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
/// Waits until at most `Pending` committed batches are unfinished.
template <int Pending>
__device__ inline void wgmma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(Pending) : "memory");
}
/// Ties registers to this place of the program, so that the compiler moves no use of them across it.
template <int Count>
__device__ inline void pin(float (&registers)[Count]) {
#pragma unroll
  for (int i = 0; i < Count; ++i) asm volatile("" : "+f"(registers[i])::"memory");
}
template <int Count>
__device__ inline void pin(uint32_t (&registers)[Count]) {
#pragma unroll
  for (int i = 0; i < Count; ++i) asm volatile("" : "+r"(registers[i])::"memory");
}

#define LONGHAUL_D8(i) \
  "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), "+f"(d[i + 6]), "+f"(d[i + 7])
#define LONGHAUL_D16(i) LONGHAUL_D8(i), LONGHAUL_D8(i + 8)
#define LONGHAUL_D32(i) LONGHAUL_D16(i), LONGHAUL_D16(i + 16)
#define LONGHAUL_N16_0 "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15"
#define LONGHAUL_N16_1 "%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31"
#define LONGHAUL_N16_2 "%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47"
#define LONGHAUL_N16_3 "%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63"
#define LONGHAUL_N32 LONGHAUL_N16_0 "," LONGHAUL_N16_1
#define LONGHAUL_N64 LONGHAUL_N32 "," LONGHAUL_N16_2 "," LONGHAUL_N16_3

/// How the second operand lies in shared memory.
enum Major { KMajor = 0, MnMajor = 1 };

/// d[N/2] (+)= A B for one step of 16 along the inner dimension: A [64, 16] in registers, B [16, N] in
/// shared memory. Registers of A: rows lane/4 and +8 of columns 2*(lane%4)+{0,1}, then the same of columns +8.
#define LONGHAUL_WGMMA(n, names, a, b, plus, major, ...)                                                    \
  asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, " plus ", 0;\n"                                            \
               "wgmma.mma_async.sync.aligned.m64n" #n "k16.f32.bf16.bf16 {" names "}, " a ", " b            \
               ", p, 1, 1, " major ";\n}" : __VA_ARGS__                                                     \
               : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "l"(descriptor_b), "r"(accumulate), "n"(static_cast<int>(Order)))
template <int N, Major Order>
__device__ inline void wgmma(float (&d)[N / 2], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3,
                             uint64_t descriptor_b, int accumulate) {
  if constexpr (N == 64)
    LONGHAUL_WGMMA(64, LONGHAUL_N32, "{%32,%33,%34,%35}", "%36", "%37", "%38", LONGHAUL_D32(0));
  else if constexpr (N == 128)
    LONGHAUL_WGMMA(128, LONGHAUL_N64, "{%64,%65,%66,%67}", "%68", "%69", "%70", LONGHAUL_D32(0), LONGHAUL_D32(32));
  else
    static_assert(N == 64, "no such shape");
}

/// Registers per thread from here on; all warps of the warpgroup together.
template <int Count>
__device__ inline void registers_increase() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(Count));
}
template <int Count>
__device__ inline void registers_decrease() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(Count));
}

}  // namespace longhaul::cuda
