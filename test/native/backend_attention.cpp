// Attention of the CPU backend against plain loops in double.
#include <limits>

#include "backend_cases.h"

using namespace cases;

namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

struct Piece {
  Piece(Random& random, int64_t keys, const Heads& heads, bool causal, float scale = 1.f)
      : keys(random, keys, heads.key_value * heads.dimension, scale, 5),
        values(random, keys, heads.key_value * heads.dimension), causal(causal) {}
  Rows keys, values;
  bool causal;
  Segment segment() { return {{keys.view(), values.view()}, causal}; }
};

/// What the textbook says: out [T, NQ*D], lse [T, NQ].
struct Expected {
  std::vector<double> out, lse;
};

Expected expect(const Rows& q, const std::vector<Piece>& pieces, const Heads& heads) {
  const int64_t d = heads.dimension, nq = heads.query, group = nq / heads.key_value;
  Expected want;
  for (int64_t i = 0; i < q.rows; ++i)
    for (int64_t head = 0; head < nq; ++head) {
      const int64_t at = head / group * d;
      std::vector<double> logits;
      std::vector<const float*> values;
      for (const Piece& piece : pieces)
        for (int64_t j = 0; j < piece.keys.rows; ++j) {
          if (piece.causal && j > i + piece.keys.rows - q.rows) continue;
          const float* query = &q.data[static_cast<size_t>(i * q.stride + head * d)];
          const float* key = &piece.keys.data[static_cast<size_t>(j * piece.keys.stride + at)];
          double dot = 0;
          for (int64_t c = 0; c < d; ++c) dot += static_cast<double>(query[c]) * key[c];
          logits.push_back(dot / std::sqrt(static_cast<double>(d)));
          values.push_back(&piece.values.data[static_cast<size_t>(j * piece.values.stride + at)]);
        }
      double top = -kInfinity, total = 0;
      for (double x : logits) top = std::max(top, x);
      std::vector<double> sums(static_cast<size_t>(d), 0.0);
      for (size_t j = 0; j < logits.size(); ++j) {
        const double p = std::exp(logits[j] - top);
        total += p;
        for (size_t c = 0; c < sums.size(); ++c) sums[c] += p * values[j][c];
      }
      for (double x : sums) want.out.push_back(total > 0 ? x / total : 0.0);
      want.lse.push_back(total > 0 ? top + std::log(total) : -kInfinity);
    }
  return want;
}

/// Runs attention on every backend and compares every output and LSE with the textbook.
void check_attention(Rows& q, std::vector<Piece>& pieces, const Heads& heads, double tolerance = 4e-6) {
  std::vector<Segment> segments;
  for (Piece& piece : pieces) segments.push_back(piece.segment());
  const int64_t width = heads.query * heads.dimension, nq = heads.query;
  const Expected want = expect(q, pieces, heads);
  each_backend([&](Backend& backend) {
    Rows out(q.rows, width, 3, 7.f);
    std::vector<float> lse(static_cast<size_t>(q.rows * nq), 7.f);
    backend.attention(q.view(), segments, heads, out.view(), lse.data());
    for (int64_t i = 0; i < q.rows; ++i) {
      for (int64_t j = 0; j < width; ++j) CHECK_NEAR(out.at(i, j), want.out[static_cast<size_t>(i * width + j)], tolerance);
      for (int64_t j = width; j < out.stride; ++j) CHECK(out.at(i, j) == 7.f);  // the gap is not out's
    }
    for (size_t i = 0; i < lse.size(); ++i)
      CHECK_NEAR(lse[i], want.lse[i], tolerance * std::max(1.0, std::abs(want.lse[i])));
  });
}

}  // namespace

TEST("backend attention: causal and open segments of odd lengths, for few and many query rows") {
  Random random(1);
  for (const Heads& heads : {Heads{4, 2, 32}, Heads{3, 3, 8}, Heads{5, 1, 20}})
    for (int64_t queries : {1, 2, 3, 9, 50, 70}) {
      for (const std::vector<std::pair<int64_t, bool>>& shape :
           {std::vector<std::pair<int64_t, bool>>{{queries, true}},
            {{67, false}},
            {{0, false}, {13, false}, {1, false}, {queries + 30, true}},
            {{33, false}, {queries / 2, true}},
            {{300, false}, {queries, true}, {0, true}}}) {
        std::vector<Piece> pieces;
        for (auto [keys, causal] : shape) pieces.emplace_back(random, keys, heads, causal);
        Rows q(random, queries, heads.query * heads.dimension, 3.f);
        check_attention(q, pieces, heads);
      }
    }
}

TEST("backend attention: the head dimensions of real models, over several key tiles") {
  Random random(2);
  for (const Heads& heads : {Heads{2, 1, 64}, Heads{2, 1, 128}, Heads{2, 2, 96}, Heads{1, 1, 256}}) {
    std::vector<Piece> pieces;
    pieces.emplace_back(random, 270, heads, false);
    pieces.emplace_back(random, 130, heads, true);
    Rows q(random, 110, heads.query * heads.dimension, 2.f);
    check_attention(q, pieces, heads);
  }
}

TEST("backend attention: rows without a key give 0 and an LSE of -inf, and no query rows give nothing") {
  Random random(3);
  const Heads heads{4, 2, 16};
  for (int64_t queries : {2, 40}) {
    Rows q(random, queries, 64);
    std::vector<Piece> none, empty, late;
    check_attention(q, none, heads);
    empty.emplace_back(random, 0, heads, true);
    check_attention(q, empty, heads);
    late.emplace_back(random, 1, heads, true);  // only the last query sees it
    check_attention(q, late, heads);
    Rows nothing(0, 64), out(0, 64);
    std::vector<Segment> segments = {late[0].segment()};
    each_backend([&](Backend& backend) { backend.attention(nothing.view(), segments, heads, out.view(), nullptr); });
  }
}

TEST("backend attention: logits of several hundred neither overflow nor lose the small ones' order") {
  Random random(4);
  const Heads heads{2, 1, 32};
  for (int64_t queries : {3, 40}) {
    std::vector<Piece> pieces;
    pieces.emplace_back(random, 280, heads, false, 30.f);
    pieces.emplace_back(random, queries, heads, true, 0.01f);
    Rows q(random, queries, 64, 30.f);
    check_attention(q, pieces, heads, 2e-4);
  }
}

TEST("backend attention: a NaN reaches every row that sees it, and no other") {
  Random random(7);
  const Heads heads{2, 1, 32};
  for (int64_t queries : {3, 40}) {
    std::vector<Piece> pieces;
    pieces.emplace_back(random, 700, heads, false);
    pieces.emplace_back(random, queries, heads, true);
    pieces[1].keys.at(1, 5) = NAN;  // row 0 does not see it
    Rows q(random, queries, 64);
    const Segment segments[] = {pieces[0].segment(), pieces[1].segment()};
    each_backend([&](Backend& backend) {
      Rows out(queries, 64);
      std::vector<float> lse(static_cast<size_t>(queries * 2));
      backend.attention(q.view(), segments, heads, out.view(), lse.data());
      for (int64_t i = 0; i < queries; ++i)
        for (int64_t j = 0; j < 64; ++j) CHECK(std::isnan(out.at(i, j)) == (i > 0));
      for (int64_t i = 0; i < queries; ++i) CHECK(std::isnan(lse[static_cast<size_t>(2 * i)]) == (i > 0));
    });
  }
}

TEST("backend attention: the same bits from every number of threads and from every call") {
  for (const Table& table : tables()) {
    if (!table.present) continue;
    Random random(5);
    const Heads heads{4, 2, 16};
    for (int64_t queries : {2, 150}) {
      std::vector<Piece> pieces;
      pieces.emplace_back(random, 300, heads, false);
      pieces.emplace_back(random, queries, heads, true);
      Rows q(random, queries, 64);
      const Segment segments[] = {pieces[0].segment(), pieces[1].segment()};
      std::vector<float> first;
      for (int threads : {1, 2, 3, 1}) {
        const auto backend = cpu::backend_with_kernels(*table.kernels, threads);
        Rows out(queries, 64);
        backend->attention(q.view(), segments, heads, out.view(), nullptr);
        if (first.empty()) first = out.data;
        CHECK(out.data == first);
      }
    }
  }
}

TEST("backend merge_attention: parts merged by LSE equal attention over all their keys") {
  each_backend([](Backend& backend) {
    Random random(6);
    const Heads heads{4, 2, 20};
    const int64_t queries = 7, nq = 4;
    std::vector<Piece> pieces;
    for (int64_t keys : {11, 0, 90}) pieces.emplace_back(random, keys, heads, false, 20.f);
    Rows q(random, queries, 80, 20.f), parts(3 * queries, 80), out(queries, 80), want(queries, 80);
    std::vector<Segment> segments;
    std::vector<float> lses(3 * queries * nq), lse(queries * nq), want_lse(queries * nq);
    for (int64_t part = 0; part < 3; ++part) {
      segments.push_back(pieces[static_cast<size_t>(part)].segment());
      Matrix to{&parts.at(part * queries, 0), queries, 80, parts.stride};
      backend.attention(q.view(), {&segments.back(), 1}, heads, to, &lses[static_cast<size_t>(part * queries * nq)]);
    }
    for (int64_t j = 0; j < 80; ++j) parts.at(queries, j) = NAN;  // a part without keys counts for nothing
    backend.attention(q.view(), segments, heads, want.view(), want_lse.data());
    backend.merge_attention(3, parts.view(), lses.data(), heads, out.view(), lse.data());
    for (int64_t i = 0; i < queries; ++i)
      for (int64_t j = 0; j < 80; ++j) CHECK_NEAR(out.at(i, j), want.at(i, j), 3e-5);
    for (size_t i = 0; i < lse.size(); ++i) CHECK_NEAR(lse[i], want_lse[i], 1e-6 * std::abs(want_lse[i]));

    std::fill(lses.begin(), lses.end(), -std::numeric_limits<float>::infinity());
    backend.merge_attention(3, parts.view(), lses.data(), heads, out.view(), lse.data());
    for (int64_t i = 0; i < queries; ++i)
      for (int64_t j = 0; j < 80; ++j) CHECK(out.at(i, j) == 0.f);
    for (float x : lse) CHECK(x == -std::numeric_limits<float>::infinity());
    backend.merge_attention(1, want.view(), want_lse.data(), heads, out.view(), nullptr);
    for (int64_t i = 0; i < queries; ++i)
      for (int64_t j = 0; j < 80; ++j) CHECK(out.at(i, j) == want.at(i, j));
  });
}
