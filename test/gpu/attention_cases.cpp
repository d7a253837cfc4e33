#include "attention_cases.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <memory>
#include <random>
#include <sstream>
#include <stdexcept>
#include <thread>

#include "backends/cpu/cpu_backend.h"
#include "backends/cuda/attention_decode.h"
#include "backends/cuda/attention_forward.h"
#include "backends/cuda/check.h"

namespace attention_cases {
namespace {

using longhaul::cuda::check;

constexpr uint16_t kPoison = 0x7fff;  // NaN
constexpr double kInfinity = std::numeric_limits<double>::infinity();

uint16_t rounded(float x) { return static_cast<__nv_bfloat16_raw>(__float2bfloat16_rn(x)).x; }

void fill(Rows& rows, std::mt19937_64& random, float scale) {
  std::normal_distribution<float> normal;
  for (int64_t i = 0; i < rows.rows; ++i)
    for (int64_t j = 0; j < rows.columns; ++j) rows.data[static_cast<size_t>(i * rows.stride + j)] = rounded(scale * normal(random));
}

/// Device memory of one buffer.
struct OnDevice {
  explicit OnDevice(size_t bytes) : bytes(std::max<size_t>(bytes, 16)) { check(cudaMalloc(&data, this->bytes), "cudaMalloc"); }
  explicit OnDevice(const Rows& rows) : OnDevice(rows.data.size() * 2) { check(cudaMemcpy(data, rows.data.data(), rows.data.size() * 2, cudaMemcpyHostToDevice), "cudaMemcpy"); }
  ~OnDevice() { cudaFree(data); }
  OnDevice(const OnDevice&) = delete;
  OnDevice& operator=(const OnDevice&) = delete;
  __nv_bfloat16* bf16() const { return static_cast<__nv_bfloat16*>(data); }

  void* data = nullptr;
  size_t bytes;
};

void for_rows(int64_t rows, const std::function<void(int64_t)>& body) {
  std::atomic<int64_t> next{0};
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < std::max(1u, std::thread::hardware_concurrency()); ++t)
    threads.emplace_back([&] {
      for (int64_t i; (i = next.fetch_add(1)) < rows;) body(i);
    });
  for (std::thread& thread : threads) thread.join();
}

}  // namespace

std::string Case::name() const {
  std::ostringstream text;
  text << "T " << shape.queries << ", NQ " << shape.query_heads << ", NK " << shape.kv_heads << ", D " << shape.dimension << ", pieces";
  for (const PieceOfCase& piece : pieces) text << ' ' << piece.rows << (piece.causal ? "c" : "") << (piece.spare > 0 ? "+" : "");
  if (in_place) text << ", in place";
  return text.str();
}

Inputs::Inputs(const Case& c)
    : of(c), q(c.shape.queries, c.shape.query_heads * c.shape.dimension, c.shape.query_heads * c.shape.dimension + c.gap) {
  std::mt19937_64 random(c.seed);
  fill(q, random, c.scale);
  const int64_t columns = c.shape.kv_heads * c.shape.dimension;
  for (const PieceOfCase& piece : c.pieces) {
    fill(keys.emplace_back(piece.rows + piece.spare, columns, columns + c.gap), random, c.scale);
    fill(values.emplace_back(piece.rows + piece.spare, columns, columns + 2 * c.gap), random, 1.f);
  }
}

Result Inputs::run(Path path) const {
  const auto& [queries, query_heads, kv_heads, dimension] = of.shape;
  const OnDevice q_memory(q), lse(static_cast<size_t>(queries * query_heads) * 4);
  Rows out(queries, q.columns, q.stride + 16);
  if (of.in_place) out = q;
  const OnDevice out_memory(out);
  check(cudaMemset(lse.data, 0xff, lse.bytes), "cudaMemset");
  std::vector<std::unique_ptr<OnDevice>> held;
  std::vector<AttentionSegment> segments;
  for (size_t i = 0; i < keys.size(); ++i) {
    AttentionSegment segment;
    segment.keys = held.emplace_back(std::make_unique<OnDevice>(keys[i]))->bf16();
    segment.values = held.emplace_back(std::make_unique<OnDevice>(values[i]))->bf16();
    segment.rows = keys[i].rows;
    segment.key_stride = keys[i].stride;
    segment.value_stride = values[i].stride;
    segment.causal = of.pieces[i].causal;
    if (of.pieces[i].spare > 0) {
      const auto now = static_cast<int32_t>(of.pieces[i].rows);
      segment.device_rows = static_cast<int32_t*>(held.emplace_back(std::make_unique<OnDevice>(sizeof now))->data);
      check(cudaMemcpy(held.back()->data, &now, sizeof now, cudaMemcpyHostToDevice), "cudaMemcpy");
    }
    if (path == Path::Any || segment.rows > 0) segments.push_back(segment);
  }
  const __nv_bfloat16* from = of.in_place ? out_memory.bf16() : q_memory.bf16();
  const int64_t from_stride = of.in_place ? out.stride : q.stride;
  auto* to_lse = static_cast<float*>(lse.data);
  if (!attention_supported(of.shape, from, from_stride, out_memory.bf16(), out.stride, segments))
    throw std::runtime_error("not supported: " + of.name());
  const OnDevice workspace(path == Path::Any ? attention_workspace_bytes(of.shape) : attention_decode_workspace(of.shape));
  check(cudaMemset(workspace.data, 0xff, workspace.bytes), "cudaMemset");
  for (int repeat = 0; repeat < (of.in_place ? 1 : 2); ++repeat) {  // the second finds the counters as the first left them
    if (path == Path::Any)
      attention(nullptr, from, from_stride, of.shape, segments, out_memory.bf16(), out.stride, to_lse, workspace.data);
    else if (path == Path::Forward)
      attention_forward(nullptr, from, from_stride, of.shape, segments, out_memory.bf16(), out.stride, to_lse);
    else
      attention_decode(nullptr, from, from_stride, of.shape, segments, out_memory.bf16(), out.stride, to_lse, workspace.data);
    check(cudaDeviceSynchronize(), of.name().c_str());
  }
  check(cudaMemcpy(out.data.data(), out_memory.data, out.data.size() * 2, cudaMemcpyDeviceToHost), "cudaMemcpy");
  Result result{{}, std::vector<float>(static_cast<size_t>(queries * query_heads))};
  check(cudaMemcpy(result.lse.data(), lse.data, result.lse.size() * 4, cudaMemcpyDeviceToHost), "cudaMemcpy");
  for (int64_t i = 0; i < queries; ++i) {
    for (int64_t j = 0; j < out.columns; ++j) result.out.push_back(out.at(i, j));
    for (int64_t j = out.columns; j < out.stride; ++j)
      if (out.data[static_cast<size_t>(i * out.stride + j)] != kPoison) throw std::runtime_error("wrote between rows: " + of.name());
  }
  return result;
}

Result Inputs::expect(int64_t every) const {
  const int64_t d = of.shape.dimension, nq = of.shape.query_heads, group = nq / of.shape.kv_heads, queries = of.shape.queries;
  const int64_t rows = (queries + every - 1) / every;
  Result want{std::vector<float>(static_cast<size_t>(rows * nq * d)), std::vector<float>(static_cast<size_t>(rows * nq))};
  for_rows(rows * nq, [&](int64_t item) {
    const int64_t i = item / nq * every, head = item % nq, at = head / group * d;
    std::vector<double> logits, sums(static_cast<size_t>(d));
    std::vector<float> query;
    for (int64_t c = 0; c < d; ++c) query.push_back(q.at(i, head * d + c));
    const auto seen = [&](size_t p) {
      const int64_t n = of.pieces[p].rows;
      return of.pieces[p].causal ? std::clamp<int64_t>(i + n - queries + 1, 0, n) : n;
    };
    for (size_t p = 0; p < keys.size(); ++p)
      for (int64_t j = 0; j < seen(p); ++j) {
        double dot = 0;
        for (int64_t c = 0; c < d; ++c) dot += static_cast<double>(query[static_cast<size_t>(c)]) * keys[p].at(j, at + c);
        logits.push_back(dot / std::sqrt(static_cast<double>(d)));
      }
    double top = -kInfinity, total = 0;
    for (double x : logits) top = std::max(top, x);
    size_t k = 0;
    for (size_t p = 0; p < keys.size(); ++p)
      for (int64_t j = 0; j < seen(p); ++j, ++k) {
        const double weight = std::exp(logits[k] - top);
        total += weight;
        for (int64_t c = 0; c < d; ++c) sums[static_cast<size_t>(c)] += weight * values[p].at(j, at + c);
      }
    for (int64_t c = 0; c < d; ++c)
      want.out[static_cast<size_t>(item * d + c)] = static_cast<float>(total > 0 ? sums[static_cast<size_t>(c)] / total : 0.0);
    want.lse[static_cast<size_t>(item)] = static_cast<float>(total > 0 ? top + std::log(total) : -kInfinity);
  });
  return want;
}

Result Inputs::cpu() const {
  const auto backend = make_cpu_backend({});
  std::vector<std::vector<float>> held;
  const auto matrix = [&](const Rows& rows, int64_t count) {
    std::vector<float>& floats = held.emplace_back();
    for (int64_t i = 0; i < count; ++i)
      for (int64_t j = 0; j < rows.columns; ++j) floats.push_back(rows.at(i, j));
    return Matrix{floats.data(), count, rows.columns, rows.columns};
  };
  std::vector<Segment> segments;
  for (size_t p = 0; p < keys.size(); ++p)
    segments.push_back({{matrix(keys[p], of.pieces[p].rows), matrix(values[p], of.pieces[p].rows)}, of.pieces[p].causal});
  Result result{std::vector<float>(static_cast<size_t>(q.rows * q.columns)),
                std::vector<float>(static_cast<size_t>(q.rows * of.shape.query_heads))};
  backend->attention(matrix(q, q.rows), segments, {of.shape.query_heads, of.shape.kv_heads, of.shape.dimension},
                     {result.out.data(), q.rows, q.columns, q.columns}, result.lse.data());
  return result;
}

Errors compare(const Case& c, const Result& got, const Result& want, int64_t every) {
  const auto d = static_cast<size_t>(c.shape.dimension), nq = static_cast<size_t>(c.shape.query_heads);
  double difference = 0, size = 0, worst = 0, lse = 0;
  for (size_t item = 0; item < want.lse.size(); ++item) {
    const size_t from = (item / nq * static_cast<size_t>(every) * nq + item % nq);
    double row_difference = 0, row_size = 0;
    for (size_t k = 0; k < d; ++k) {
      const double w = want.out[item * d + k], e = static_cast<double>(got.out[from * d + k]) - w;
      row_difference += e * e;
      row_size += w * w;
    }
    difference += row_difference;
    size += row_size;
    const double row = row_difference == 0 ? 0 : std::sqrt(row_difference / row_size);
    if (!(row <= worst)) worst = row;  // keeps NaN
    const double e = got.lse[from] == want.lse[item] ? 0 : std::abs(static_cast<double>(got.lse[from]) - want.lse[item]);
    if (!(e <= lse)) lse = e;
  }
  return {difference == 0 ? 0 : std::sqrt(difference / size), worst, lse};
}

}  // namespace attention_cases
