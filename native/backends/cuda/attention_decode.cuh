// Attention for few query rows over many keys: bound by reading keys and values once.
//
// The query heads of a KV head are packed into rows (row = query * group + head of the group). The tiles
// of keys of all KV heads form one line that is cut into equal shares, whatever the number of heads. A
// share is taken by as many thread blocks as there are blocks of rows, which read the same keys at the
// same time. Each leaves a normalised output and its log-sum-exp in float32 for its part of a head's
// keys; a second kernel merges them.
#pragma once

#include "attention_params.h"
#include "attention_softmax.cuh"
#include "attention_tile.cuh"
#include "mbarrier.cuh"
#include "ring.cuh"
#include "tma.cuh"
#include "wgmma.cuh"

namespace longhaul::cuda {

/// D head dimension, Tile keys per tile, Groups consumer warpgroups of 64 rows each, Stages of the ring.
template <int D, int Tile, int Groups, int Stages, int Pieces>
struct DecodeKernel {
  using Params = DecodeParams<Pieces>;
  using Products = AttentionTile<D, Tile>;

  static constexpr int kRows = 64 * Groups;
  static constexpr int kThreads = 128 * (Groups + 1);
  static constexpr int kTileBytes = Tile * D * 2;  // [D/64][Tile][64]

  struct Shared {
    alignas(1024) unsigned char keys[Stages][kTileBytes];
    alignas(1024) unsigned char values[Stages][kTileBytes];
    uint64_t key_full[Stages], key_empty[Stages], value_full[Stages], value_empty[Stages];
    Piece pieces[Pieces];
  };
  static constexpr int kSharedBytes = sizeof(Shared) + 1024;  // aligned by hand

  /// This block's share of the line.
  struct Share {
    int tiles;  // of a KV head
    int64_t begin, end;
  };
  __device__ static Share share(const Params& p, const Shared& shared) {
    const int tiles = SplitWalk<Tile>::tiles(shared.pieces, p.count);
    const Shares shares(static_cast<int64_t>(tiles) * p.kv_heads, p.takers);
    return {tiles, shares.begin(blockIdx.y), shares.begin(blockIdx.y + 1)};
  }

  /// One thread: brings the K or the V tiles of the share.
  __device__ static void produce(const Params& p, Shared& shared, const CUtensorMap* maps,
                                 unsigned char (&tiles)[Stages][kTileBytes], uint64_t (&full)[Stages],
                                 uint64_t (&empty)[Stages]) {
    const Share mine = share(p, shared);
    SplitWalk<Tile> walk{shared.pieces, p.count};
    Ring<Stages> ring;
    for (int64_t at = mine.begin; at < mine.end; ++at, ring.next()) {
      const int kv_head = static_cast<int>(at / mine.tiles), index = static_cast<int>(at % mine.tiles);
      if (at == mine.begin || index == 0) walk.seek(index);
      else walk.next();
      barrier_wait(shared_address(&empty[ring.index]), ring.phase ^ 1);
      const uint32_t barrier = shared_address(&full[ring.index]);
      barrier_expect(barrier, kTileBytes);
      tma_load(shared_address(tiles[ring.index]), &maps[walk.piece], walk.first, kv_head * (D / 64), barrier,
               kEvictFirst);
    }
  }

  /// The thread's rows of Q, as the first operand of wgmma. Rows past the end are zeros.
  __device__ static void load_queries(uint32_t (&q)[D / 4], const Params& p, int kv_head, int row, int lane) {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const int query = (row + 8 * h) / p.group, head = kv_head * p.group + (row + 8 * h) % p.group;
      const __nv_bfloat16* from = p.q + static_cast<int64_t>(query) * p.q_stride + head * D + 2 * (lane % 4);
#pragma unroll
      for (int k = 0; k < D / 8; ++k)
        q[2 * k + h] = query < p.queries ? *reinterpret_cast<const uint32_t*>(from + 8 * k) : 0;
    }
  }

  __device__ static void consume(const Params& p, Shared& shared, int group) {
    const int thread = static_cast<int>(threadIdx.x) % 128, lane = thread % 32;
    const int warp = __shfl_sync(0xffffffff, thread / 32, 0);
    const Share mine = share(p, shared);
    const uint64_t key_tiles = wgmma_descriptor(shared_address(shared.keys[0]), 0);
    const uint64_t value_tiles = wgmma_descriptor(shared_address(shared.values[0]), Tile * 128);
    const int first_row = static_cast<int>(blockIdx.x) * kRows + group * 64 + warp * 16;  // of the warp
    const int row = first_row + lane / 4;                                                 // of the thread, and row + 8
    const int first_query = first_row / p.group, query = row / p.group, query_below = (row + 8) / p.group;
    Ring<Stages> ring;
    for (int64_t at = mine.begin; at < mine.end;) {
      const int kv_head = static_cast<int>(at / mine.tiles), index = static_cast<int>(at % mine.tiles);
      const int count = static_cast<int>(min(mine.end - at, static_cast<int64_t>(mine.tiles - index)));
      float s[Tile / 2], o[D / 2];
      uint32_t q[D / 4], probabilities[Tile / 4];
      load_queries(q, p, kv_head, row, lane);
#pragma unroll
      for (int j = 0; j < D / 2; ++j) o[j] = 0.f;
      Softmax softmax(p.scale);
      SplitWalk<Tile> walk{shared.pieces, p.count};
      walk.seek(index);
#pragma unroll 1
      for (int i = 0; i < count; ++i, walk.next(), ring.next()) {
        barrier_wait(shared_address(&shared.key_full[ring.index]), ring.phase);
        wgmma_fence();
        Products::multiply_keys(s, q, key_tiles + static_cast<uint64_t>(ring.index * (kTileBytes / 16)));
        wgmma_commit();
        wgmma_wait<0>();
        pin(s);
        if (lane == 0) barrier_arrive(shared_address(&shared.key_empty[ring.index]));
        if (walk.seen(first_query) < Tile) Products::mask(s, walk.seen(query), walk.seen(query_below), lane);
        float best[2], factor[2];
        Softmax::maxima(s, best);
        if (softmax.outgrown(best)) {
          softmax.raise(best, factor);
          Products::scale(o, factor);
        }
        softmax.exponentials(s, probabilities);
        barrier_wait(shared_address(&shared.value_full[ring.index]), ring.phase);
        pin(o);
        wgmma_fence();
        Products::multiply_values(o, probabilities, value_tiles + static_cast<uint64_t>(ring.index * (kTileBytes / 16)));
        wgmma_commit();
        wgmma_wait<0>();
        pin(o);
        if (lane == 0) barrier_arrive(shared_address(&shared.value_empty[ring.index]));
      }
      at += count;

      float inverse[2], lse[2];
      softmax.finish(inverse, lse);
      const int64_t part = (static_cast<int64_t>(blockIdx.y) + kv_head) * gridDim.x * kRows + row;
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        if (row + 8 * h >= p.queries * p.group) continue;
        if (lane % 4 == 0) p.part_lse[part + 8 * h] = lse[h];
        float* to = p.part_out + (part + 8 * h) * D + 2 * (lane % 4);
#pragma unroll
        for (int j = 0; j < D / 8; ++j)
          *reinterpret_cast<float2*>(to + 8 * j) =
              make_float2(o[4 * j + 2 * h] * inverse[h], o[4 * j + 2 * h + 1] * inverse[h]);
      }
    }
  }

  __device__ static void run(const Params& p) {
    extern __shared__ unsigned char dynamic[];
    Shared& shared = *reinterpret_cast<Shared*>((reinterpret_cast<uintptr_t>(dynamic) + 1023) & ~uintptr_t{1023});
    const int warp = __shfl_sync(0xffffffff, static_cast<int>(threadIdx.x) / 32, 0);
    for (int i = static_cast<int>(threadIdx.x); i < p.count; i += kThreads)
      shared.pieces[i] = p.pieces[i].now(p.queries);
    if (threadIdx.x == 0) {
      for (int i = 0; i < Stages; ++i) {
        barrier_init(shared_address(&shared.key_full[i]), 1);
        barrier_init(shared_address(&shared.key_empty[i]), 4 * Groups);
        barrier_init(shared_address(&shared.value_full[i]), 1);
        barrier_init(shared_address(&shared.value_empty[i]), 4 * Groups);
      }
      barrier_init_fence();
    }
    __syncthreads();
    if (warp < 4) {
      if constexpr (Groups > 1) registers_decrease<40>();
      if (warp == 0 && threadIdx.x % 32 == 0)
        produce(p, shared, p.keys, shared.keys, shared.key_full, shared.key_empty);
      if (warp == 1 && threadIdx.x % 32 == 0)
        produce(p, shared, p.values, shared.values, shared.value_full, shared.value_empty);
    } else {
      if constexpr (Groups > 1) registers_increase<232>();
      consume(p, shared, warp / 4 - 1);
    }
  }
};

template <class Kernel>
__global__ __launch_bounds__(Kernel::kThreads, 1) void attention_decode_parts(
    const __grid_constant__ typename Kernel::Params p) {
  Kernel::run(p);
}

/// One warp per query row and head: merges the parts of its keys by their log-sum-exps.
template <class Kernel, int D, int Tile>
__global__ __launch_bounds__(128) void attention_decode_merge(const __grid_constant__ typename Kernel::Params p) {
  constexpr int kWide = D / 32;  // columns of a lane
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int item = static_cast<int>(blockIdx.x) * 4 + static_cast<int>(threadIdx.x) / 32;
  const int query = item / p.query_heads, head = item % p.query_heads;
  if (query >= p.queries) return;
  int64_t tiles = 0;
  for (int i = lane; i < p.count; i += 32) tiles += (p.pieces[i].now(p.queries).rows + Tile - 1) / Tile;
#pragma unroll
  for (int step = 16; step > 0; step /= 2) tiles += __shfl_xor_sync(0xffffffff, tiles, step);

  const int row = query * p.group + head % p.group;
  const int kv_head = head / p.group;
  const Shares shares(tiles * p.kv_heads, p.takers);
  const int64_t first = tiles == 0 ? 0 : shares.owner(kv_head * tiles);
  const int parts = tiles == 0 ? 0 : static_cast<int>(shares.owner((kv_head + 1) * tiles - 1) - first + 1);
  const int64_t step_rows = static_cast<int64_t>(p.row_blocks) * Kernel::kRows;  // from part to part
  const int64_t base = (first + kv_head) * step_rows + row;

  float top = -INFINITY;
  for (int i = lane; i < parts; i += 32) top = fmaxf(top, p.part_lse[base + i * step_rows]);
#pragma unroll
  for (int step = 16; step > 0; step /= 2) top = fmaxf(top, __shfl_xor_sync(0xffffffff, top, step));

  float sum[kWide] = {}, total = 0.f;
  if (top > -INFINITY) {
#pragma unroll 4
    for (int i = 0; i < parts; ++i) {
      const int64_t part = base + i * step_rows;
      const float weight = __expf(p.part_lse[part] - top);
      total += weight;
      const float* from = p.part_out + part * D + lane * kWide;
#pragma unroll
      for (int c = 0; c < kWide; c += 2) {
        const float2 pair = *reinterpret_cast<const float2*>(from + c);
        sum[c] += weight * pair.x;
        sum[c + 1] += weight * pair.y;
      }
    }
  }
  const float inverse = total > 0.f ? 1.f / total : 0.f;
  __nv_bfloat16* to = p.out + static_cast<int64_t>(query) * p.out_stride + head * D + lane * kWide;
#pragma unroll
  for (int c = 0; c < kWide; c += 2)
    *reinterpret_cast<uint32_t*>(to + c) = pack_bf16(sum[c] * inverse, sum[c + 1] * inverse);
  if (p.lse != nullptr && lane == 0)
    p.lse[static_cast<int64_t>(query) * p.query_heads + head] = total > 0.f ? top + __logf(total) : -INFINITY;
}

}  // namespace longhaul::cuda
