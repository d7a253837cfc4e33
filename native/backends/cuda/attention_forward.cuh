// Attention forward for many query rows: a persistent kernel with specialised warps.
//
// A thread block takes 64 query rows of one head per consumer warpgroup. One warp brings Q and K
// tiles, another V tiles, through the copy engine; the consumers take turns on the tensor cores
// (while one multiplies, the other exponentiates) and overlap their own softmax with the product
// of the tile before (FlashAttention-3, 2407.08608). Two blocks of a cluster work on two query
// heads of the same key/value head: each brings half of every K and V tile for both.
#pragma once

#include "attention_params.h"
#include "attention_softmax.cuh"
#include "attention_tile.cuh"
#include "mbarrier.cuh"
#include "ring.cuh"
#include "tma.cuh"
#include "wgmma.cuh"

namespace longhaul::cuda {

/// D head dimension, Tile keys per tile, Groups consumer warpgroups, Blocks per cluster (1 or 2),
/// Stages of the ring of K and of V tiles, Pieces at most.
template <int D, int Tile, int Groups, int Blocks, int Stages, int Pieces, bool QRegisters = false>
struct ForwardKernel {
  using Params = AttentionParams<Pieces>;
  using Products = AttentionTile<D, Tile>;

  static constexpr int kRows = 64 * Groups;                 // query rows of a block
  static constexpr int kThreads = 128 * (Groups + 1);       // warpgroup 0 produces
  static constexpr int kQueryBytes = 64 * D * 2;            // of one warpgroup: [D/64][64][64]
  static constexpr int kTileBytes = Tile * D * 2;           // [D/64][Tile][64]
  static constexpr int kBoxRows = Blocks == 2 && D == 64 ? Tile / 2 : Tile;  // one block's share of a tile
  static constexpr int kBoxColumns = Blocks == 2 && D == 128 ? 1 : D / 64;   // in units of 64
#ifdef NO_TURNS
  static constexpr bool Turns = false;
#else
  static constexpr bool Turns = Groups > 1;
#endif
  static constexpr int kWarps = 4 * Groups;                 // that consume
  static constexpr int kConsumerRegisters = Groups == 2 ? 240 : 160;
  static constexpr int kProducerRegisters = Groups == 2 ? 24 : 32;

  struct Shared {
    // Two buffers for Q: the next item's arrives, and the last one's output leaves, during this one.
    alignas(1024) unsigned char q[2][Groups][kQueryBytes];
    alignas(1024) unsigned char keys[Stages][kTileBytes];
    alignas(1024) unsigned char values[Stages][kTileBytes];
    uint64_t q_full[2], q_empty[2], key_full[Stages], key_empty[Stages], value_full[Stages], value_empty[Stages];
    uint64_t work_full[2], work_empty[2];
    uint32_t work[2];  // item
  };
  static constexpr int kSharedBytes = sizeof(Shared) + 1024;  // aligned by hand

  /// The items of work as every role sees them, in the same order.
  struct Work {
    Shared& shared;
    Ring<2> ring;
    /// `lane` of a warp that takes together, or 0 for a thread on its own.
    template <bool WholeWarp>
    __device__ uint32_t take(int lane) {
      barrier_wait(shared_address(&shared.work_full[ring.index]), ring.phase);
      const uint32_t item = *const_cast<volatile uint32_t*>(&shared.work[ring.index]);
      if constexpr (WholeWarp) __syncwarp();
      if (lane == 0) {
        const uint32_t empty = shared_address(&shared.work_empty[ring.index]);
        if constexpr (Blocks > 1) barrier_arrive_at(empty, 0);
        else barrier_arrive(empty);
      }
      return item;
    }
  };

  __device__ static void load_tile(unsigned char* to, const CUtensorMap* map, int row, int kv_head, uint64_t& full,
                                   uint32_t rank) {
    const uint32_t barrier = shared_address(&full);
    barrier_expect(barrier, kTileBytes);
    const int box = kv_head * (D / 64);
    if constexpr (Blocks == 1)
      tma_load(shared_address(to), map, row, box, barrier, kEvictLast);
    else
      tma_load_multicast(shared_address(to) + rank * (kTileBytes / 2), map,
                         row + (D == 64 ? static_cast<int>(rank) * kBoxRows : 0),
                         box + (D == 128 ? static_cast<int>(rank) : 0), barrier, 3, kEvictLast);
  }

  __device__ static KeyWalk<Tile> walk(const Params& p, int block) {
    const int end = (block + 1) * kRows;
    return {p.pieces, p.count, (end < p.queries ? end : p.queries) - 1};
  }

  /// One thread: hands out work (in the first block of the cluster), brings Q and K.
  __device__ static void produce_keys(const Params& p, Shared& shared, uint32_t rank) {
    Work work{shared};
    Ring<Stages> ring;
    uint32_t next = rank == 0 ? atomicAdd(&p.counters[0], 1) : 0;
    for (;; work.ring.next()) {
      const int slot = work.ring.index;
      const uint32_t full = shared_address(&shared.work_full[slot]);
      if (rank == 0) {
        barrier_wait(shared_address(&shared.work_empty[slot]), work.ring.phase ^ 1);
#pragma unroll
        for (uint32_t to = 0; to < Blocks; ++to) send_word(shared_address(&shared.work[slot]), next, full, to);
      }
      barrier_expect(full, 4);
      const uint32_t item = work.template take<false>(0);
      if (item >= static_cast<uint32_t>(p.schedule.items())) break;
      if (rank == 0) next = atomicAdd(&p.counters[0], 1);

      const Schedule::Place place = p.schedule.place(static_cast<int>(item));
      const int head = place.head * Blocks + static_cast<int>(rank), kv_head = head / p.group;
      barrier_wait(shared_address(&shared.q_empty[slot]), work.ring.phase ^ 1);
      const uint32_t q_full = shared_address(&shared.q_full[slot]);
      barrier_expect(q_full, Groups * kQueryBytes);
#pragma unroll
      for (int g = 0; g < Groups; ++g)
        tma_load(shared_address(shared.q[slot][g]), &p.q, place.block * kRows + g * 64, head * (D / 64), q_full,
                 kEvictFirst);
      for (KeyWalk<Tile> tiles = walk(p, place.block); tiles.next(); ring.next()) {
        barrier_wait(shared_address(&shared.key_empty[ring.index]), ring.phase ^ 1);
        load_tile(shared.keys[ring.index], &p.keys[tiles.piece], tiles.first, kv_head, shared.key_full[ring.index],
                  rank);
      }
    }
    if (rank == 0 && atomicAdd(&p.counters[1], 1) == gridDim.x / Blocks - 1) {  // all have fetched their last
      p.counters[0] = 0;
      p.counters[1] = 0;
    }
  }

  /// One thread: brings V.
  __device__ static void produce_values(const Params& p, Shared& shared, uint32_t rank) {
    Work work{shared};
    Ring<Stages> ring;
    for (;; work.ring.next()) {
      const uint32_t item = work.template take<false>(0);
      if (item >= static_cast<uint32_t>(p.schedule.items())) break;
      const Schedule::Place place = p.schedule.place(static_cast<int>(item));
      const int kv_head = (place.head * Blocks + static_cast<int>(rank)) / p.group;
      for (KeyWalk<Tile> tiles = walk(p, place.block); tiles.next(); ring.next()) {
        barrier_wait(shared_address(&shared.value_empty[ring.index]), ring.phase ^ 1);
        load_tile(shared.values[ring.index], &p.values[tiles.piece], tiles.first, kv_head,
                  shared.value_full[ring.index], rank);
      }
    }
  }

  /// A warp has read its part of a tile: tells the producers of all blocks that write there.
  __device__ static void release(uint64_t& empty, int lane) {
    const uint32_t barrier = shared_address(&empty);
    if constexpr (Blocks == 1) {
      if (lane == 0) barrier_arrive(barrier);
    } else {
      if (lane < Blocks) barrier_arrive_at(barrier, static_cast<uint32_t>(lane));
    }
  }

  __device__ static void load_queries(uint32_t (&query)[QRegisters ? D / 4 : 1], uint32_t from, int warp, int lane) {
    const int row = warp * 16 + lane % 16, half = lane / 16;
#pragma unroll
    for (int k = 0; k < D / 16; ++k) {
      const int chunk = k % 4 * 2 + half;
      const uint32_t at = from + static_cast<uint32_t>(k / 4 * 64 * 128 + row * 128 + ((chunk ^ (row & 7)) << 4));
      asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                   : "=r"(query[4 * k]), "=r"(query[4 * k + 1]), "=r"(query[4 * k + 2]), "=r"(query[4 * k + 3])
                   : "r"(at)
                   : "memory");
    }
  }
  __device__ static void multiply(float (&s)[Tile / 2], uint64_t q, const uint32_t (&query)[QRegisters ? D / 4 : 1], uint64_t keys) {
    if constexpr (!QRegisters) {
      Products::multiply_keys(s, q, keys);
    } else {
#pragma unroll
      for (int k = 0; k < D / 16; ++k)
        wgmma_rs<Tile, 0>(s, query[4 * k], query[4 * k + 1], query[4 * k + 2], query[4 * k + 3],
                          keys + (k % 4 * 32 + k / 4 * Tile * 128) / 16, k > 0);
    }
  }

  /// The warp's 16 rows of o to shared memory: [D/64][64][64] in the 128-byte swizzle.
  __device__ static void stage_output(uint32_t to, const float (&o)[D / 2], const float (&inverse)[2], int warp,
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

  __device__ static void consume(const Params& p, Shared& shared, uint32_t rank, int group) {
    const int thread = static_cast<int>(threadIdx.x) % 128, lane = thread % 32;
    const int warp = __shfl_sync(0xffffffff, thread / 32, 0);
    const int my_turn = 1 + group, next_turn = 1 + (group + 1) % Groups, staged = 1 + Groups + group;
    if (Turns && group == Groups - 1) named_arrive(1, 256);  // the first turn is group 0's

    Work work{shared};
    Ring<Stages> keys, values;
    uint64_t* unreleased = nullptr;  // q_empty of the item before, while its output still leaves
    for (;; work.ring.next()) {
      const uint32_t item = work.template take<true>(lane);
      if (item >= static_cast<uint32_t>(p.schedule.items())) break;
      const Schedule::Place place = p.schedule.place(static_cast<int>(item));
      const int slot = work.ring.index;
      const int head = place.head * Blocks + static_cast<int>(rank);
      const int first_row = place.block * kRows + group * 64 + warp * 16;  // of the warp
      const int row = first_row + lane / 4;                                // of the thread, and row + 8
      const uint32_t q_at = shared_address(shared.q[slot][group]);
      const uint64_t q = wgmma_descriptor(q_at, 0);
      const uint64_t key_tiles = wgmma_descriptor(shared_address(shared.keys[0]), 0);
      const uint64_t value_tiles = wgmma_descriptor(shared_address(shared.values[0]), Tile * 128);

      float s[Tile / 2], o[D / 2];
      uint32_t query[QRegisters ? D / 4 : 1];
      uint32_t probabilities[Tile / 4];
#pragma unroll
      for (int j = 0; j < D / 2; ++j) o[j] = 0.f;
      Softmax softmax(p.scale);
      KeyWalk<Tile> tiles = walk(p, place.block);
      const bool any = tiles.next();
      barrier_wait(shared_address(&shared.q_full[slot]), work.ring.phase);
      const auto free_last = [&] {  // its output has had time to leave
        if (unreleased == nullptr) return;
        tma_store_wait_read();
        barrier_arrive(shared_address(unreleased));
        unreleased = nullptr;
      };
      if (any) {
        barrier_wait(shared_address(&shared.key_full[keys.index]), keys.phase);
        if constexpr (QRegisters) load_queries(query, q_at, warp, lane);
        wgmma_fence();
        multiply(s, q, query, key_tiles + static_cast<uint64_t>(keys.index * (kTileBytes / 16)));
        wgmma_commit();
        wgmma_wait<0>();
        pin(s);
        release(shared.key_empty[keys.index], lane);
        keys.next();
        if (tiles.seen(first_row) < Tile) Products::mask(s, tiles.seen(row), tiles.seen(row + 8), lane);
        softmax.step(s);
        Products::pack(probabilities, s);
        free_last();
        while (tiles.next()) {
          barrier_wait(shared_address(&shared.key_full[keys.index]), keys.phase);
          if constexpr (Turns) named_sync(my_turn, 256);
          pin(o);
          wgmma_fence();
          multiply(s, q, query, key_tiles + static_cast<uint64_t>(keys.index * (kTileBytes / 16)));
          wgmma_commit();
          barrier_wait(shared_address(&shared.value_full[values.index]), values.phase);
          wgmma_fence();
          Products::multiply_values(o, probabilities, value_tiles + static_cast<uint64_t>(values.index * (kTileBytes / 16)));
          wgmma_commit();
          if constexpr (Turns) named_arrive(next_turn, 256);
          wgmma_wait<1>();
          pin(s);
          release(shared.key_empty[keys.index], lane);
          keys.next();
          if (tiles.seen(first_row) < Tile) Products::mask(s, tiles.seen(row), tiles.seen(row + 8), lane);
          softmax.step(s);
          wgmma_wait<0>();
          pin(o);
          pin(probabilities);
          release(shared.value_empty[values.index], lane);
          values.next();
          softmax.rescale_output(o);
          Products::pack(probabilities, s);
        }
        barrier_wait(shared_address(&shared.value_full[values.index]), values.phase);
        pin(o);
        wgmma_fence();
        Products::multiply_values(o, probabilities, value_tiles + static_cast<uint64_t>(values.index * (kTileBytes / 16)));
        wgmma_commit();
        wgmma_wait<0>();
        pin(o);
        release(shared.value_empty[values.index], lane);
        values.next();
      } else {
        free_last();
      }

      float inverse[2], lse[2];
      softmax.finish(inverse, lse);
      stage_output(q_at, o, inverse, warp, lane);
      tma_store_fence();
      named_sync(staged, 128);
      if (thread == 0) {
        tma_store(&p.out, q_at, place.block * kRows + group * 64, head * (D / 64));
        tma_store_commit();
        unreleased = &shared.q_empty[slot];
      }
      if (p.lse != nullptr && lane % 4 == 0) {
#pragma unroll
        for (int h = 0; h < 2; ++h)
          if (row + 8 * h < p.queries)
            p.lse[static_cast<int64_t>(row + 8 * h) * p.query_heads + head] = lse[h];
      }
    }
    if (unreleased != nullptr) tma_store_wait();
  }

  __device__ static void run(const Params& p) {
    extern __shared__ unsigned char dynamic[];
    Shared& shared = *reinterpret_cast<Shared*>((reinterpret_cast<uintptr_t>(dynamic) + 1023) & ~uintptr_t{1023});
    const uint32_t rank = Blocks > 1 ? cluster_rank() : 0;
    const int warp = __shfl_sync(0xffffffff, static_cast<int>(threadIdx.x) / 32, 0);
    if (threadIdx.x == 0) {
      for (int i = 0; i < 2; ++i) {
        barrier_init(shared_address(&shared.q_full[i]), 1);
        barrier_init(shared_address(&shared.q_empty[i]), Groups);
        barrier_init(shared_address(&shared.work_full[i]), 1);
        barrier_init(shared_address(&shared.work_empty[i]), Blocks * (kWarps + 2));
      }
      for (int i = 0; i < Stages; ++i) {
        barrier_init(shared_address(&shared.key_full[i]), 1);
        barrier_init(shared_address(&shared.key_empty[i]), Blocks * kWarps);
        barrier_init(shared_address(&shared.value_full[i]), 1);
        barrier_init(shared_address(&shared.value_empty[i]), Blocks * kWarps);
      }
      barrier_init_fence();
    }
    if constexpr (Blocks > 1) cluster_sync();
    else __syncthreads();

    if (warp < 4) {
      registers_decrease<kProducerRegisters>();
      if (warp == 0 && threadIdx.x % 32 == 0) produce_keys(p, shared, rank);
      if (warp == 1 && threadIdx.x % 32 == 0) produce_values(p, shared, rank);
      __syncwarp();
    } else {
      registers_increase<kConsumerRegisters>();
      consume(p, shared, rank, warp / 4 - 1);
    }
    if constexpr (Blocks > 1) cluster_sync();  // the other block may still arrive at barriers here
  }
};

template <class Kernel>
__global__ __launch_bounds__(Kernel::kThreads, 1) void attention_forward(const __grid_constant__ typename Kernel::Params p) {
  Kernel::run(p);
}

}  // namespace longhaul::cuda
