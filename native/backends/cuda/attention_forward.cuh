// Attention forward for many query rows: a persistent kernel with specialised warps.
//
// A thread block takes 64 query rows of one head per consumer warpgroup. One warp brings Q and K
// tiles, another V tiles, through the copy engine. A consumer starts the products of a tile of keys and,
// right behind them, those of the tile of values before; while one consumer exponentiates, the other
// multiplies (FlashAttention-3, 2407.08608).
#pragma once

#include <cstddef>

#include "attention_params.h"
#include "attention_softmax.cuh"
#include "attention_tile.cuh"
#include "mbarrier.cuh"
#include "ring.cuh"
#include "tma.cuh"
#include "wgmma.cuh"

namespace longhaul::cuda {

/// D head dimension, Tile keys per tile, Stages of the ring of K and of V tiles, Pieces at most.
template <int D, int Tile, int Stages, int Pieces>
struct ForwardKernel {
  using Params = AttentionParams<Pieces>;
  using Products = AttentionTile<D, Tile>;

  static constexpr int kTile = Tile;
  static constexpr int kGroups = 2;                    // warpgroups that consume
  static constexpr int kRows = 64 * kGroups;           // query rows of a block
  static constexpr int kThreads = 128 * (kGroups + 1); // warpgroup 0 produces
  static constexpr int kWarps = 4 * kGroups;           // that consume
  static constexpr int kQueryBytes = 64 * D * 2;       // of one warpgroup: [D/64][64][64]
  static constexpr int kTileBytes = Tile * D * 2;      // [D/64][Tile][64]
  // Together what the block was launched with: 168 for each of 384 threads.
  static constexpr int kConsumerRegisters = D == 64 ? 232 : 240;
  static constexpr int kProducerRegisters = D == 64 ? 40 : 24;
  static_assert(kGroups * kConsumerRegisters + kProducerRegisters == (kGroups + 1) * 168);

  struct Shared {
    // Two buffers for Q: the next item's arrives, and the last one's output leaves, during this one.
    alignas(1024) unsigned char q[2][kGroups][kQueryBytes];
    alignas(1024) unsigned char keys[Stages][kTileBytes];
    alignas(1024) unsigned char values[Stages][kTileBytes];
    uint64_t q_full[2], q_empty[2], key_full[Stages], key_empty[Stages], value_full[Stages], value_empty[Stages];
    uint64_t work_full[2], work_empty[2];
    uint32_t work[2];  // item
  };
  static constexpr int kSharedBytes = sizeof(Shared) + 1024;  // aligned by hand

  /// Shared memory by its 32-bit address, which the compiler would else compute anew at every use.
  struct Address {
    uint32_t base;

    __device__ uint32_t at(size_t first, int index, int size) const {
      return base + static_cast<uint32_t>(first) + static_cast<uint32_t>(index * size);
    }
    __device__ uint32_t q(int buffer, int group) const {
      return at(offsetof(Shared, q), buffer * kGroups + group, kQueryBytes);
    }
    __device__ uint32_t keys(int stage) const { return at(offsetof(Shared, keys), stage, kTileBytes); }
    __device__ uint32_t values(int stage) const { return at(offsetof(Shared, values), stage, kTileBytes); }
    __device__ uint32_t q_full(int i) const { return at(offsetof(Shared, q_full), i, 8); }
    __device__ uint32_t q_empty(int i) const { return at(offsetof(Shared, q_empty), i, 8); }
    __device__ uint32_t key_full(int i) const { return at(offsetof(Shared, key_full), i, 8); }
    __device__ uint32_t key_empty(int i) const { return at(offsetof(Shared, key_empty), i, 8); }
    __device__ uint32_t value_full(int i) const { return at(offsetof(Shared, value_full), i, 8); }
    __device__ uint32_t value_empty(int i) const { return at(offsetof(Shared, value_empty), i, 8); }
    __device__ uint32_t work_full(int i) const { return at(offsetof(Shared, work_full), i, 8); }
    __device__ uint32_t work_empty(int i) const { return at(offsetof(Shared, work_empty), i, 8); }
  };

  /// The items of work as every role sees them, in the same order.
  struct Work {
    const Shared& shared;
    Address at;
    Ring<2> ring;
    /// `lane` of a warp that takes together, or 0 for a thread on its own.
    template <bool WholeWarp>
    __device__ uint32_t take(int lane) {
      barrier_wait(at.work_full(ring.index), ring.phase);
      const uint32_t item = *const_cast<volatile uint32_t*>(&shared.work[ring.index]);
      if constexpr (WholeWarp) __syncwarp();
      if (lane == 0) barrier_arrive(at.work_empty(ring.index));
      return item;
    }
  };

  __device__ static void load_tile(uint32_t to, const CUtensorMap* map, int row, int kv_head, uint32_t barrier) {
    barrier_expect(barrier, kTileBytes);
    tma_load(to, map, row, kv_head * (D / 64), barrier, kEvictLast);
  }

  __device__ static KeyWalk<Tile> walk(const Params& p, int block) {
    const int end = (block + 1) * kRows;
    return {p.pieces, p.count, (end < p.queries ? end : p.queries) - 1};
  }

  /// One thread: hands out work, brings Q and K.
  __device__ static void produce_keys(const Params& p, Shared& shared, Address at) {
    Work work{shared, at, {}};
    Ring<Stages> ring;
    unsigned next = atomicAdd(&p.counters[0], 1);
    for (;; work.ring.next()) {
      const int slot = work.ring.index;
      barrier_wait(at.work_empty(slot), work.ring.phase ^ 1);
      const unsigned item = next;
      shared.work[slot] = item;
      barrier_arrive(at.work_full(slot));
      if (item >= static_cast<unsigned>(p.schedule.items())) break;
      next = atomicAdd(&p.counters[0], 1);

      const Schedule::Place place = p.schedule.place(static_cast<int>(item));
      barrier_wait(at.q_empty(slot), work.ring.phase ^ 1);
      const uint32_t q_full = at.q_full(slot);
      barrier_expect(q_full, kGroups * kQueryBytes);
#pragma unroll
      for (int g = 0; g < kGroups; ++g)
        tma_load(at.q(slot, g), &p.q, place.block * kRows + g * 64, place.head * (D / 64), q_full,
                 kEvictFirst);
      for (KeyWalk<Tile> tiles = walk(p, place.block); tiles.next(); ring.next()) {
        barrier_wait(at.key_empty(ring.index), ring.phase ^ 1);
        load_tile(at.keys(ring.index), &p.keys[tiles.piece], tiles.first, place.head / p.group,
                  at.key_full(ring.index));
      }
    }
    if (atomicAdd(&p.counters[1], 1) == gridDim.x - 1) {  // all have fetched their last
      p.counters[0] = 0;
      p.counters[1] = 0;
    }
  }

  /// One thread: brings V.
  __device__ static void produce_values(const Params& p, const Shared& shared, Address at) {
    Work work{shared, at, {}};
    Ring<Stages> ring;
    for (;; work.ring.next()) {
      const unsigned item = work.template take<false>(0);
      if (item >= static_cast<unsigned>(p.schedule.items())) break;
      const Schedule::Place place = p.schedule.place(static_cast<int>(item));
      for (KeyWalk<Tile> tiles = walk(p, place.block); tiles.next(); ring.next()) {
        barrier_wait(at.value_empty(ring.index), ring.phase ^ 1);
        load_tile(at.values(ring.index), &p.values[tiles.piece], tiles.first, place.head / p.group,
                  at.value_full(ring.index));
      }
    }
  }

  /// From the descriptor of the ring's first tile to another's.
  __device__ static uint64_t step(int index) { return static_cast<uint64_t>(index * (kTileBytes / 16)); }

  __device__ static void consume(const Params& p, const Shared& shared, Address at, int group) {
    const int thread = static_cast<int>(threadIdx.x) % 128, lane = thread % 32;
    const int warp = __shfl_sync(0xffffffff, thread / 32, 0);
    const int staged = 1 + group;  // a named barrier
    Work work{shared, at, {}};
    Ring<Stages> keys, values;
    uint32_t unreleased = 0;  // q_empty of the item before, while its output still leaves
    for (;; work.ring.next()) {
      const uint32_t item = work.template take<true>(lane);
      if (item >= static_cast<uint32_t>(p.schedule.items())) break;
      const Schedule::Place place = p.schedule.place(static_cast<int>(item));
      const int slot = work.ring.index;
      const int first_row = place.block * kRows + group * 64 + warp * 16;  // of the warp
      const int row = first_row + lane / 4;                                // of the thread, and row + 8
      const uint32_t q_at = at.q(slot, group);
      const uint64_t key_tiles = wgmma_descriptor(at.keys(0), 0);
      const uint64_t value_tiles = wgmma_descriptor(at.values(0), Tile * 128);

      float s[Tile / 2], o[D / 2];
      uint32_t q[D / 4], probabilities[Tile / 4];
#pragma unroll
      for (int j = 0; j < D / 2; ++j) o[j] = 0.f;
      Softmax softmax(p.scale);
      KeyWalk<Tile> tiles = walk(p, place.block);
      const bool any = tiles.next();
      barrier_wait(at.q_full(slot), work.ring.phase);
      const auto free_last = [&] {  // its output has had time to leave
        if (unreleased == 0) return;
        tma_store_wait_read();
        barrier_arrive(unreleased);
        unreleased = 0;
      };
      if (any) {
        barrier_wait(at.key_full(keys.index), keys.phase);
        Products::load_queries(q, q_at, warp, lane);
        wgmma_fence();
        Products::multiply_keys(s, q, key_tiles + step(keys.index));
        wgmma_commit();
        wgmma_wait<0>();
        pin(s);
        if (lane == 0) barrier_arrive(at.key_empty(keys.index));
        keys.next();
        if (tiles.seen(first_row) < Tile) Products::mask(s, tiles.seen(row), tiles.seen(row + 8), lane);
        float best[2], factor[2];
        Softmax::maxima(s, best);
        softmax.raise(best, factor);
        softmax.exponentials(s, probabilities);
        free_last();
        while (tiles.next()) {
          barrier_wait(at.key_full(keys.index), keys.phase);
          barrier_wait(at.value_full(values.index), values.phase);
          pin(o);
          wgmma_fence();
          Products::multiply_keys(s, q, key_tiles + step(keys.index));
          wgmma_commit();
          Products::multiply_values(o, probabilities, value_tiles + step(values.index));
          wgmma_commit();
          wgmma_wait<1>();
          pin(s);
          if (lane == 0) barrier_arrive(at.key_empty(keys.index));
          keys.next();
          if (tiles.seen(first_row) < Tile) Products::mask(s, tiles.seen(row), tiles.seen(row + 8), lane);
          Softmax::maxima(s, best);
          const bool outgrown = softmax.outgrown(best);
          if (outgrown) softmax.raise(best, factor);
          wgmma_wait<0>();
          pin(o);
          pin(probabilities);
          if (lane == 0) barrier_arrive(at.value_empty(values.index));
          values.next();
          if (outgrown) Products::scale(o, factor);
          softmax.exponentials(s, probabilities);
        }
        barrier_wait(at.value_full(values.index), values.phase);
        pin(o);
        wgmma_fence();
        Products::multiply_values(o, probabilities, value_tiles + step(values.index));
        wgmma_commit();
        wgmma_wait<0>();
        pin(o);
        if (lane == 0) barrier_arrive(at.value_empty(values.index));
        values.next();
      } else {
        free_last();
      }

      float inverse[2], lse[2];
      softmax.finish(inverse, lse);
      Products::store_output(q_at, o, inverse, warp, lane);
      tma_store_fence();
      named_sync(staged, 128);
      if (thread == 0) {
        tma_store(&p.out, q_at, place.block * kRows + group * 64, place.head * (D / 64));
        tma_store_commit();
        unreleased = at.q_empty(slot);
      }
      if (p.lse != nullptr && lane % 4 == 0) {
#pragma unroll
        for (int h = 0; h < 2; ++h)
          if (row + 8 * h < p.queries)
            p.lse[static_cast<int64_t>(row + 8 * h) * p.query_heads + place.head] = lse[h];
      }
    }
    if (unreleased != 0) tma_store_wait();
  }

  __device__ static void run(const Params& p) {
    extern __shared__ unsigned char dynamic[];
    Shared& shared = *reinterpret_cast<Shared*>((reinterpret_cast<uintptr_t>(dynamic) + 1023) & ~uintptr_t{1023});
    Address at{shared_address(&shared)};
    asm volatile("" : "+r"(at.base));  // not to be recomputed
    const int warp = __shfl_sync(0xffffffff, static_cast<int>(threadIdx.x) / 32, 0);
    if (threadIdx.x == 0) {
      for (int i = 0; i < 2; ++i) {
        barrier_init(at.q_full(i), 1);
        barrier_init(at.q_empty(i), kGroups);
        barrier_init(at.work_full(i), 1);
        barrier_init(at.work_empty(i), kWarps + 1);
      }
      for (int i = 0; i < Stages; ++i) {
        barrier_init(at.key_full(i), 1);
        barrier_init(at.key_empty(i), kWarps);
        barrier_init(at.value_full(i), 1);
        barrier_init(at.value_empty(i), kWarps);
      }
      barrier_init_fence();
    }
    __syncthreads();

    if (warp < 4) {
      registers_decrease<kProducerRegisters>();
      if (warp == 0 && threadIdx.x % 32 == 0) produce_keys(p, shared, at);
      if (warp == 1 && threadIdx.x % 32 == 0) produce_values(p, shared, at);
    } else {
      registers_increase<kConsumerRegisters>();
      consume(p, shared, at, warp / 4 - 1);
    }
  }
};

template <class Kernel>
__global__ __launch_bounds__(Kernel::kThreads, 1) void attention_forward(const __grid_constant__ typename Kernel::Params p) {
  Kernel::run(p);
}

}  // namespace longhaul::cuda
