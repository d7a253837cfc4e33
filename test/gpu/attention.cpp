// Attention on tensor cores against plain loops in double and against the CPU backend.
#include <algorithm>
#include <sstream>

#include "attention_cases.h"
#include "check.h"

using namespace attention_cases;

namespace {

// Norm of the difference over norm of the result: probabilities and result are rounded to bfloat16
// (2^-9 each at most, half of that on average), everything else is float32.
constexpr double kAll = 4e-3, kRow = 1.2e-2, kLse = 2e-3;

void check_case(const Case& c, Path path, int64_t every = 1) {
  const Inputs inputs(c);
  const Result got = inputs.run(path);
  const auto holds = [&](const Result& want, const char* of) {
    const Errors e = compare(c, got, want, every);
    std::ostringstream text;
    text << c.name() << (path == Path::Decode ? " (split keys)" : path == Path::Forward ? " (tiles of rows)" : "") << ", against "
         << of << ": error " << e.out << ", of the worst row " << e.worst_row << ", of LSE " << e.lse;
    if (!(e.out <= kAll && e.worst_row <= kRow && e.lse <= kLse)) check::fail(__FILE__, __LINE__, text.str());
  };
  holds(inputs.expect(every), "double");
  if (every == 1) holds(inputs.cpu(), "the CPU backend");
}

void check_both(Case c) {
  static uint64_t seed = 100;
  for (Path path : {Path::Forward, Path::Decode}) {
    c.seed = ++seed;
    check_case(c, path);
  }
}

const std::vector<std::array<int64_t, 2>> kHeads = {{4, 2}, {2, 2}, {7, 1}, {8, 2}, {3, 1}};

}  // namespace

TEST("cuda attention: one tile of queries and keys") {
  for (int64_t d : {128, 64}) check_both({{128, 2, 1, d}, {{128, false}}});
}

TEST("cuda attention: causal and open segments of odd lengths, every grouping of heads") {
  for (int64_t d : {128, 64})
    for (auto [nq, nk] : kHeads)
      for (int64_t t : {1, 5, 64, 129, 300})
        for (const std::vector<PieceOfCase>& pieces :
             {std::vector<PieceOfCase>{{t, true}}, {{67, false}}, {{0, false}, {13, false}, {1, false}, {t + 30, true}}, {{300, false}, {t, true}, {0, true}}})
          check_both({{t, nq, nk, d}, pieces});
}

TEST("cuda attention: anchor, passing blocks and the own block, without concatenation") {
  for (int64_t d : {128, 64}) {
    std::vector<PieceOfCase> pieces = {{256, false}};
    for (int i = 0; i < 7; ++i) pieces.push_back({128 + 16 * (i % 3), false});
    pieces.push_back({513, true});
    check_both({{513, 8, 2, d}, pieces});
    for (int i = 0; i < 60; ++i) pieces.push_back({1 + i % 9, false});  // as many as 64 ranks pass
    check_both({{200, 4, 2, d}, pieces});
  }
}

TEST("cuda attention: rows without a key give 0 and an LSE of -inf") {
  for (int64_t d : {128, 64}) {
    check_both({{70, 4, 2, d}, {}});
    check_both({{300, 4, 2, d}, {{1, true}}});
    check_both({{300, 4, 2, d}, {{140, true}}});
    check_both({{300, 4, 2, d}, {{0, true}}});
  }
}

TEST("cuda attention: the output may take the queries' place") {
  for (int64_t d : {128, 64}) {
    Case c{{333, 8, 2, d}, {{100, false}, {333, true}}};
    c.in_place = true;
    check_both(c);
  }
}

TEST("cuda attention: logits of several hundred, and maxima that rise along the keys") {
  Case c{{150, 4, 2, 128}, {{400, false}, {150, true}}};
  c.scale = 7.f;
  check_both(c);
}

TEST("cuda attention: keys that the device counts") {
  for (int64_t d : {128, 64})
    for (int64_t t : {1, 3, 20}) check_case({{t, 8, 2, d}, {{500, false}, {37, true, 91}, {t, true, 64}}}, Path::Decode);
}

TEST("cuda attention: thousands of rows, by the path that the shape chooses") {
  check_case({{4096, 8, 2, 128}, {{1024, false}, {2000, false}, {4096, true}}}, Path::Any, 97);
  check_case({{4000, 8, 8, 64}, {{4000, true}}}, Path::Any, 97);
  check_case({{1, 32, 8, 128}, {{40000, false}, {3, true}}}, Path::Any);
  check_case({{64, 32, 8, 128}, {{8000, false}, {64, true}}}, Path::Any, 7);
  check_case({{100, 32, 8, 128}, {{9000, false}, {100, true}}}, Path::Any, 13);
}
