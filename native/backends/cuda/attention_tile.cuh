// Attention of one warpgroup's 64 query rows over one tile of keys, in registers.
#pragma once

#include <cuda_bf16.h>

#include <cmath>

#include "attention_softmax.cuh"
#include "wgmma.cuh"

namespace longhaul::cuda {

template <int D, int Tile>
struct AttentionTile {
  /// s [64, Tile] = Q K^T; q [D/64][64][64] and keys [D/64][Tile][64] in shared memory.
  __device__ static void multiply_keys(float (&s)[Tile / 2], uint64_t q, uint64_t keys) {
#pragma unroll
    for (int k = 0; k < D / 16; ++k)  // 32 bytes along a row, then the next box of 64 columns
      wgmma_ss<Tile>(s, q + (k % 4 * 32 + k / 4 * 64 * 128) / 16, keys + (k % 4 * 32 + k / 4 * Tile * 128) / 16, k > 0);
  }

  /// o [64, D] += P V; values [D/64][Tile][64].
  __device__ static void multiply_values(float (&o)[D / 2], const uint32_t (&p)[Tile / 4], uint64_t values) {
#pragma unroll
    for (int k = 0; k < Tile / 16; ++k)
      wgmma_rs<D>(o, p[4 * k], p[4 * k + 1], p[4 * k + 2], p[4 * k + 3], values + k * 2048 / 16, 1);
  }

  /// Hides all but the first `seen` and `seen_below` keys from the thread's rows lane/4 and lane/4 + 8.
  __device__ static void mask(float (&s)[Tile / 2], int seen, int seen_below, int lane) {
    const int end[2] = {seen - 2 * (lane % 4), seen_below - 2 * (lane % 4)};
#pragma unroll
    for (int j = 0; j < Tile / 2; ++j)
      if (j / 4 * 8 + j % 2 >= end[j / 2 % 2]) s[j] = -INFINITY;
  }

  /// To bfloat16: the accumulator's layout is the one that multiply_values reads.
  __device__ static void pack(uint32_t (&p)[Tile / 4], const float (&s)[Tile / 2]) {
#pragma unroll
    for (int j = 0; j < Tile / 4; ++j) p[j] = pack_bf16(s[2 * j], s[2 * j + 1]);
  }
};

}  // namespace longhaul::cuda
