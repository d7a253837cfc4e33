// Attention and merging through the backend, whichever kernel it takes, against the CPU's.
#include <limits>

#include "twins.h"

using namespace twins;

namespace {

struct Piece {
  int64_t rows;
  bool causal;
};

void compare(const Heads& heads, int64_t queries, const std::vector<Piece>& pieces, int64_t gap, bool in_place) {
  Random random(static_cast<uint64_t>(queries * 31 + heads.dimension));
  const int64_t wide = heads.query * heads.dimension, narrow = heads.key_value * heads.dimension;
  Both q(random, queries, wide, 2.f, gap), out(queries, wide, gap);
  std::vector<Both> memory;
  memory.reserve(pieces.size() * 2);
  std::vector<Segment> on_cpu, on_gpu;
  for (const Piece& piece : pieces) {
    Both& keys = memory.emplace_back(random, piece.rows, narrow, 2.f, gap);
    Both& values = memory.emplace_back(random, piece.rows, narrow, 2.f, gap);
    on_cpu.push_back({{keys.on_cpu(), values.on_cpu()}, piece.causal});
    on_gpu.push_back({{keys.on_gpu(), values.on_gpu()}, piece.causal});
  }
  Plain<float> lse(queries * heads.query);
  Both& to = in_place ? q : out;
  cpu().attention(q.on_cpu(), on_cpu, heads, to.on_cpu(), lse.on_cpu());
  gpu().attention(q.on_gpu(), on_gpu, heads, to.on_gpu(), lse.on_gpu());
  std::string what = "attention D " + std::to_string(heads.dimension) + ", " + std::to_string(queries) + " queries";
  for (const Piece& piece : pieces) what += ", " + std::to_string(piece.rows) + (piece.causal ? " causal" : " keys");
  to.check_equal(8e-3, what);  // weights are rounded to bfloat16 before the second product
  const auto got = lse.from_gpu(), want = lse.from_cpu();
  for (size_t i = 0; i < got.size(); ++i)
    if (!(got[i] == want[i] || std::abs(got[i] - want[i]) < 4e-3))
      check::fail(__FILE__, __LINE__, what + ": lse[" + std::to_string(i) + "] is " + std::to_string(got[i]) + ", want " + std::to_string(want[i]));
}

}  // namespace

TEST("gpu attention: every head dimension, few queries and many, any pieces, in place as well") {
  const std::vector<std::pair<int64_t, std::vector<Piece>>> calls = {
      {1, {{1, true}}}, {1, {{700, false}, {3, true}}}, {5, {{33, false}, {5, true}}}, {64, {{300, true}}}, {70, {{40, false}, {0, false}, {70, true}}},
      {200, {{1, false}, {129, false}, {200, true}}}, {300, {{300, true}}}, {130, {{50, true}}}, {3, {{0, false}}}, {40, {}},
      {257, {{64, false}, {100, false}, {7, false}, {257, true}}}};
  for (const Heads& heads : {Heads{4, 2, 32}, {4, 2, 64}, {4, 1, 128}, {3, 1, 64}, {2, 2, 20}, {8, 2, 128}})
    for (const auto& [queries, pieces] : calls)
      for (const int64_t gap : {int64_t{0}, int64_t{3}})
        for (const bool in_place : {false, true}) compare(heads, queries, pieces, gap, in_place);
}

TEST("gpu merge_attention: parts of any weight, and empty ones") {
  Random random(9);
  const Heads heads{3, 1, 40};
  for (int64_t t : {1, 6}) {
    const int64_t parts = 4, wide = 3 * 40;
    Both outs(random, parts * t, wide), out(t, wide);
    auto lses = random.many(parts * t * 3, 20.f);
    for (int64_t i = 0; i < t * 3; ++i) lses[static_cast<size_t>(2 * t * 3 + i)] = -std::numeric_limits<float>::infinity();
    for (int64_t p = 0; p < parts; ++p) lses[static_cast<size_t>(p * t * 3)] = -std::numeric_limits<float>::infinity();  // a row without keys
    Plain<float> all(lses), merged(t * 3);
    cpu().merge_attention(parts, outs.on_cpu(), all.on_cpu(), heads, out.on_cpu(), merged.on_cpu());
    gpu().merge_attention(parts, outs.on_gpu(), all.on_gpu(), heads, out.on_gpu(), merged.on_gpu());
    out.check_equal(4e-3, "merged attention");
    CHECK(relative_error(merged.from_gpu(), merged.from_cpu()) < 1e-5);
  }
}
