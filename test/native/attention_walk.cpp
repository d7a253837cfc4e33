// Which tiles of keys the GPU's attention kernels walk and who takes them: plain arithmetic, tested without a GPU.
#include "backends/cuda/attention_walk.cuh"

#include <algorithm>
#include <set>
#include <utility>
#include <vector>

#include "check.h"

using namespace longhaul::cuda;

namespace {

constexpr int kTile = 16;

struct Numbers {
  uint64_t state = 7;
  int below(int n) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return static_cast<int>((state >> 33) % static_cast<uint64_t>(n));
  }
};

std::vector<Piece> some_pieces(Numbers& numbers, int queries) {
  std::vector<Piece> pieces;
  for (int i = numbers.below(4); i >= 0; --i) {
    const int rows = numbers.below(90);
    pieces.push_back({rows, numbers.below(2) == 0 ? rows - queries : Piece::kOpen});
  }
  return pieces;
}

}  // namespace

TEST("attention walk: the tiles of a block of rows are those that one of its rows sees, each once") {
  Numbers numbers;
  for (int round = 0; round < 500; ++round) {
    const int queries = 1 + numbers.below(80), last = numbers.below(queries);
    const std::vector<Piece> pieces = some_pieces(numbers, queries);
    std::set<std::pair<int, int>> walked, want;
    KeyWalk<kTile> walk{pieces.data(), static_cast<int>(pieces.size()), last};
    while (walk.next()) {
      CHECK(walked.insert({walk.piece, walk.first}).second);
      CHECK(walk.seen(last) > 0);
    }
    for (int i = 0; i < static_cast<int>(pieces.size()); ++i)
      for (int key = 0; key < pieces[static_cast<size_t>(i)].rows; ++key)
        if (key <= last + pieces[static_cast<size_t>(i)].shift) want.insert({i, key / kTile * kTile});
    CHECK(walked == want);
  }
}

TEST("attention walk: every tile of a split is walked by the one taker that owns it, from wherever it begins") {
  Numbers numbers;
  for (int round = 0; round < 300; ++round) {
    const std::vector<Piece> pieces = some_pieces(numbers, 5);
    const int count = static_cast<int>(pieces.size()), units = 1 + numbers.below(9), takers = 1 + numbers.below(40);
    const int tiles = SplitWalk<kTile>::tiles(pieces.data(), count);
    const Shares shares(static_cast<int64_t>(tiles) * units, takers);
    std::set<std::pair<int64_t, std::pair<int, int>>> walked;  // unit, tile
    std::set<int64_t> places;
    for (int64_t taker = 0; taker < takers; ++taker) {
      SplitWalk<kTile> walk{pieces.data(), count};
      for (int64_t at = shares.begin(taker); at < shares.begin(taker + 1); ++at) {
        const int64_t unit = at / tiles;
        if (at == shares.begin(taker) || at % tiles == 0) {
          walk.seek(static_cast<int>(at % tiles));
          CHECK(places.insert(taker + unit).second);  // its part of this unit
        } else {
          walk.next();
        }
        CHECK(shares.owner(at) == taker);
        CHECK(walk.first < pieces[static_cast<size_t>(walk.piece)].rows);
        CHECK(walked.insert({unit, {walk.piece, walk.first}}).second);
      }
    }
    CHECK(static_cast<int64_t>(walked.size()) == shares.total);
    CHECK(places.empty() || *places.rbegin() < takers + units);
  }
}

TEST("attention walk: work goes out once each, the last block of a group of heads first") {
  for (const Schedule schedule : {Schedule{5, 8, 4}, Schedule{3, 32, 32}, Schedule{7, 6, 1}, Schedule{1, 4, 2}}) {
    std::set<std::pair<int, int>> seen;
    for (int item = 0; item < schedule.items(); ++item) {
      const Schedule::Place place = schedule.place(item);
      CHECK(place.block >= 0 && place.block < schedule.blocks && place.head >= 0 && place.head < schedule.heads);
      CHECK(seen.insert({place.block, place.head}).second);
      if (item % (schedule.blocks * schedule.together) == 0) continue;  // the next group of heads begins
      CHECK(place.block <= schedule.place(item - 1).block);
      CHECK(place.head / schedule.together == schedule.place(item - 1).head / schedule.together);
    }
  }
}
