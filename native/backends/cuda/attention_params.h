// What the host tells an attention kernel.
#pragma once

#include <cuda.h>
#include <cuda_bf16.h>

#include "attention_walk.cuh"

namespace longhaul::cuda {

/// The maps and lengths of up to `Pieces` segments, passed by value.
template <int Pieces>
struct AttentionParams {
  CUtensorMap q;                 // [NQ*D/64][T][64]
  CUtensorMap out;               // [NQ*D/64][T][64]
  CUtensorMap keys[Pieces];      // [NK*D/64][rows][64]
  CUtensorMap values[Pieces];    // [NK*D/64][rows][64]
  Piece pieces[Pieces];
  int count;                     // of pieces
  int queries;                   // T
  int query_heads;               // NQ
  int group;                     // NQ / NK
  float scale;                   // log2(e) / sqrt(D)
  float* lse;                    // [T, NQ] or null
  Schedule schedule;
  unsigned* counters;            // [2]: next item, blocks that have ended; both 0 before and after
};

/// A segment whose length the device may know better than the host.
struct GrowingPiece {
  int rows;
  bool causal;
  const int32_t* device_rows;  // or null

  __device__ Piece now(int queries) const {
    const int count = device_rows != nullptr ? min(*device_rows, rows) : rows;
    return {count, causal ? count - queries : Piece::kOpen};
  }
};

template <int Pieces>
struct DecodeParams {
  CUtensorMap keys[Pieces];      // [NK*D/64][rows][64]
  CUtensorMap values[Pieces];    // [NK*D/64][rows][64]
  GrowingPiece pieces[Pieces];
  int count;                     // of pieces
  int queries;                   // T
  int query_heads;               // NQ
  int kv_heads;                  // NK
  int group;                     // NQ / NK
  int row_blocks;                // blocks of rows of one KV head
  int takers;                    // of shares of the keys
  float scale;                   // log2(e) / sqrt(D)
  const __nv_bfloat16* q;        // [T, NQ*D]
  int64_t q_stride;
  __nv_bfloat16* out;            // [T, NQ*D]
  int64_t out_stride;
  float* lse;                    // [T, NQ] or null
  float* part_lse;               // [takers + NK, rows of all row blocks]
  float* part_out;               // [takers + NK, rows of all row blocks, D]
};

}  // namespace longhaul::cuda
