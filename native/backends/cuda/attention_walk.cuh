// Which keys a query row sees, in which order the tiles of keys are walked, and in which order the
// pieces of work are handed out. Plain arithmetic, the same on host and device.
#pragma once

#include <cstdint>

#ifdef __CUDACC__
#define LONGHAUL_BOTH __host__ __device__
#else
#define LONGHAUL_BOTH
#endif

namespace longhaul::cuda {

/// Keys of one segment: query row r sees the first min(rows, r + shift + 1).
struct Piece {
  static constexpr int kOpen = 1 << 30;  // a shift that hides nothing

  int rows;
  int shift;  // causal: rows - queries

  LONGHAUL_BOTH int visible(int row) const {
    const int seen = row + shift + 1 < rows ? row + shift + 1 : rows;
    return seen > 0 ? seen : 0;
  }
};

/// Tiles of `Tile` keys that the rows up to `last_row` see: piece after piece, in each from the last
/// tile to the first, so that the tiles which need a mask come first.
template <int Tile>
struct KeyWalk {
  const Piece* pieces;
  int count;
  int last_row;
  int piece = -1;
  int first = 0;  // row of the piece

  /// To the next tile, or false.
  LONGHAUL_BOTH bool next() {
    first -= Tile;
    while (first < 0) {
      if (++piece == count) return false;
      first = (pieces[piece].visible(last_row) + Tile - 1) / Tile * Tile - Tile;
    }
    return true;
  }
  /// How many keys of the current tile a row sees: at most 0 when none, at least Tile when all.
  LONGHAUL_BOTH int seen(int row) const { return pieces[piece].visible(row) - first; }
};

/// All tiles of all pieces in order, from any place: what a split of the keys walks.
template <int Tile>
struct SplitWalk {
  const Piece* pieces;
  int count;
  int piece = 0;
  int first = 0;  // row of the piece

  LONGHAUL_BOTH static int tiles(const Piece* pieces, int count) {
    int sum = 0;
    for (int i = 0; i < count; ++i) sum += (pieces[i].rows + Tile - 1) / Tile;
    return sum;
  }
  /// To tile `index` of those; there is one.
  LONGHAUL_BOTH void seek(int index) {
    piece = 0;
    for (int here; index >= (here = (pieces[piece].rows + Tile - 1) / Tile); ++piece) index -= here;
    first = index * Tile;
  }
  /// To the next tile, if there is one.
  LONGHAUL_BOTH void next() {
    first += Tile;
    while (piece < count && first >= pieces[piece].rows) ++piece, first = 0;
  }
  LONGHAUL_BOTH int seen(int row) const { return pieces[piece].visible(row) - first; }
};

/// Equal shares of a line of `total` tiles for `takers`. The line is `units` of `total / units` tiles:
/// taker t's part of unit u goes to place t + u, which no other part has.
struct Shares {
  int64_t total;
  int64_t takers;  // that have a share: no more than there are tiles

  LONGHAUL_BOTH Shares(int64_t total, int64_t takers) : total(total), takers(takers < total ? takers : total) {}
  LONGHAUL_BOTH int64_t begin(int64_t taker) const { return taker < takers ? taker * total / takers : total; }
  /// The taker whose share holds this tile.
  LONGHAUL_BOTH int64_t owner(int64_t tile) const { return ((tile + 1) * takers - 1) / total; }
};

/// Order of work: heads whose keys and values fit the L2 cache together, then blocks of query rows
/// from the longest (the last) to the first, then the heads that share those keys.
struct Schedule {
  int blocks;    // of query rows
  int heads;     // query heads
  int together;  // query heads whose keys go together, divides `heads`

  struct Place {
    int block, head;
  };
  LONGHAUL_BOTH int items() const { return blocks * heads; }
  LONGHAUL_BOTH Place place(int item) const {
    const int section = item / (blocks * together), rest = item % (blocks * together);
    return {blocks - 1 - rest / together, section * together + rest % together};
  }
};

}  // namespace longhaul::cuda
