// Attention of one warpgroup's 64 query rows over one tile of keys, in registers.
#pragma once

#include <cuda_bf16.h>

#include <cmath>

#include "attention_softmax.cuh"
#include "wgmma.cuh"

namespace longhaul::cuda {

template <int D, int Tile>
struct AttentionTile {
  /// The warp's 16 rows of Q, [D/64][64][64] in the 128-byte swizzle, to registers.
  __device__ static void load_queries(uint32_t (&q)[D / 4], uint32_t from, int warp, int lane) {
    const int row = warp * 16 + lane % 16, half = lane / 16;
#pragma unroll
    for (int k = 0; k < D / 16; ++k) {  // 16 columns: four 8 x 8 matrices
      const int chunk = k % 4 * 2 + half;
      const uint32_t at = from + static_cast<uint32_t>(k / 4 * 64 * 128 + row * 128 + ((chunk ^ (row & 7)) << 4));
      asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                   : "=r"(q[4 * k]), "=r"(q[4 * k + 1]), "=r"(q[4 * k + 2]), "=r"(q[4 * k + 3])
                   : "r"(at)
                   : "memory");
    }
  }

  /// The warp's 16 rows of o to shared memory: [D/64][64][64] in the 128-byte swizzle.
  __device__ static void store_output(uint32_t to, const float (&o)[D / 2], const float (&inverse)[2], int warp,
                                      int lane) {
    const int row = warp * 16 + lane % 16, half = lane / 16;
#pragma unroll
    for (int j = 0; j < D / 16; ++j) {  // 16 columns: four 8 x 8 matrices
      const float* v = o + 8 * j;
      const int chunk = j % 4 * 2 + half;
      const uint32_t at = to + static_cast<uint32_t>(j / 4 * 64 * 128 + row * 128 + ((chunk ^ (row & 7)) << 4));
      asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(at),
                   "r"(pack_bf16(v[0] * inverse[0], v[1] * inverse[0])),
                   "r"(pack_bf16(v[2] * inverse[1], v[3] * inverse[1])),
                   "r"(pack_bf16(v[4] * inverse[0], v[5] * inverse[0])),
                   "r"(pack_bf16(v[6] * inverse[1], v[7] * inverse[1]))
                   : "memory");
    }
  }

  /// s [64, Tile] = Q K^T; keys [D/64][Tile][64] in shared memory. Queries stay in registers, as the
  /// first operand wants them: fewer reads of shared memory, so less power, which is what limits the clock.
  __device__ static void multiply_keys(float (&s)[Tile / 2], const uint32_t (&q)[D / 4], uint64_t keys) {
#pragma unroll
    for (int k = 0; k < D / 16; ++k)  // 32 bytes along a row, then the next box of 64 columns
      wgmma<Tile, KMajor>(s, q[4 * k], q[4 * k + 1], q[4 * k + 2], q[4 * k + 3],
                          keys + (k % 4 * 32 + k / 4 * Tile * 128) / 16, k > 0);
  }

  /// o [64, D] += P V; values [D/64][Tile][64].
  __device__ static void multiply_values(float (&o)[D / 2], const uint32_t (&p)[Tile / 4], uint64_t values) {
#pragma unroll
    for (int k = 0; k < Tile / 16; ++k)
      wgmma<D, MnMajor>(o, p[4 * k], p[4 * k + 1], p[4 * k + 2], p[4 * k + 3], values + k * 2048 / 16, 1);
  }

  __device__ static void scale(float (&o)[D / 2], const float (&factor)[2]) {
#pragma unroll
    for (int j = 0; j < D / 2; ++j) o[j] *= factor[j / 2 % 2];
  }

  /// Hides all but the first `seen` and `seen_below` keys from the thread's rows lane/4 and lane/4 + 8.
  __device__ static void mask(float (&s)[Tile / 2], int seen, int seen_below, int lane) {
    const int end[2] = {seen - 2 * (lane % 4), seen_below - 2 * (lane % 4)};
#pragma unroll
    for (int j = 0; j < Tile / 2; ++j)
      if (j / 4 * 8 + j % 2 >= end[j / 2 % 2]) s[j] = -INFINITY;
  }
};

}  // namespace longhaul::cuda
