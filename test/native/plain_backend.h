// The backend's ops as the plainest loops: the independent twin that other backends are compared
// with. Float32 memory, sums in double.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>

#include "backends/backend.h"

namespace longhaul::testing {

class PlainBackend : public Backend {
 public:
  /// With `device` it says that the host cannot reach its memory, so that callers must stage.
  explicit PlainBackend(bool device = false) : device_(device) {}

  std::string description() const override { return "plain loops"; }
  size_t element_bytes() const override { return sizeof(float); }
  bool host_memory() const override { return !device_; }

  BufferPtr allocate(size_t bytes) override { return std::make_shared<Memory>(bytes); }
  BufferPtr allocate_host(size_t bytes) override { return allocate(bytes); }
  void upload(void* to, const void* from, size_t bytes) override { std::memcpy(to, from, bytes); }
  void download(void* to, const void* from, size_t bytes) override { std::memcpy(to, from, bytes); }
  void clear(void* data, size_t bytes) override { std::memset(data, 0, bytes); }
  void copy(void* to, const void* from, size_t bytes) override { std::memcpy(to, from, bytes); }
  void download_float(const Matrix& x, float* out) override {
    for (int64_t i = 0; i < x.rows; ++i) out = std::copy_n(row(x, i), x.columns, out);
  }
  void synchronize() override {}

  LinearPtr load_linear(std::span<const LinearPart> parts) override {
    auto linear = std::make_shared<Weight>();
    linear->columns = parts.front().weight.columns;
    for (const LinearPart& part : parts) {
      append(linear->weight, part.weight);
      if (part.bias) append(linear->bias, *part.bias);
      else linear->bias.resize(linear->bias.size() + static_cast<size_t>(part.weight.rows), 0.0f);
    }
    return linear;
  }
  BufferPtr load_table(const HostTensor& tensor) override {
    std::vector<float> values;
    append(values, tensor);
    auto memory = std::make_shared<Memory>(values.size() * sizeof(float));
    std::memcpy(memory->data(), values.data(), memory->bytes());
    return memory;
  }

  void embed(const BufferPtr& table, std::span<const uint32_t> tokens, const Matrix& out) override {
    for (int64_t i = 0; i < out.rows; ++i)
      std::copy_n(
          static_cast<const float*>(table->data()) + tokens[static_cast<size_t>(i)] * static_cast<size_t>(out.columns),
          out.columns, row(out, i));
  }
  void rmsnorm(const Matrix& x, const BufferPtr& weight, float epsilon, const Matrix& out) override {
    const auto* w = static_cast<const float*>(weight->data());
    for (int64_t i = 0; i < x.rows; ++i) {
      double square = 0;
      for (int64_t j = 0; j < x.columns; ++j) square += static_cast<double>(row(x, i)[j]) * row(x, i)[j];
      const double scale = 1 / std::sqrt(square / static_cast<double>(x.columns) + epsilon);
      for (int64_t j = 0; j < x.columns; ++j) row(out, i)[j] = static_cast<float>(row(x, i)[j] * scale * w[j]);
    }
  }
  void gemm_slice(const Matrix& x, const Linear& weight, const Slice& slice, const Matrix& out) override {
    const auto& w = static_cast<const Weight&>(weight);
    for (int64_t i = 0; i < x.rows; ++i)
      for (int64_t o = 0; o < slice.outs; ++o) {
        const int64_t line = slice.first_out + o;
        const double bias = slice.first_in == 0 ? w.bias[static_cast<size_t>(line)] : 0;
        row(out, i)[o] = static_cast<float>(dot(row(x, i), &w.weight[static_cast<size_t>(line * w.columns + slice.first_in)], slice.ins) + bias);
      }
  }
  void add_parts(int64_t count, const Matrix& parts, const Matrix& x) override {
    for (int64_t i = 0; i < x.rows; ++i)
      for (int64_t c = 0; c < x.columns; ++c) {
        double sum = 0;
        for (int64_t p = 0; p < count; ++p) sum += row(parts, p * x.rows + i)[c];
        row(x, i)[c] = static_cast<float>(row(x, i)[c] + sum);
      }
  }
  void gemm(const Matrix& x, const Linear& weight, const Matrix& out, bool accumulate) override {
    const auto& w = static_cast<const Weight&>(weight);
    for (int64_t i = 0; i < x.rows; ++i)
      for (int64_t o = 0; o < w.out(); ++o) {
        const double y =
            dot(row(x, i), &w.weight[static_cast<size_t>(o * w.columns)], w.columns) + w.bias[static_cast<size_t>(o)];
        row(out, i)[o] = static_cast<float>(accumulate ? row(out, i)[o] + y : y);
      }
  }
  void rope(const Matrix& x, int64_t heads, std::span<const int32_t> positions, const Rope& rope) override {
    const auto half = static_cast<int64_t>(rope.inverse_frequencies.size());
    for (int64_t i = 0; i < x.rows; ++i)
      for (int64_t k = 0; k < half; ++k) {
        const double angle = positions[static_cast<size_t>(i)] * rope.inverse_frequencies[static_cast<size_t>(k)];
        const double c = std::cos(angle), s = std::sin(angle);
        for (int64_t h = 0; h < heads; ++h) {
          float& a = row(x, i)[h * 2 * half + k];
          float& b = row(x, i)[h * 2 * half + half + k];
          const double low = a * c - b * s, high = b * c + a * s;
          a = static_cast<float>(low), b = static_cast<float>(high);
        }
      }
  }
  void swiglu(const Matrix& gate_up, const Matrix& out) override {
    for (int64_t i = 0; i < out.rows; ++i)
      for (int64_t j = 0; j < out.columns; ++j)
        row(out, i)[j] = static_cast<float>(silu(row(gate_up, i)[j]) * row(gate_up, i)[out.columns + j]);
  }

  void attention(const Matrix& q, std::span<const Segment> segments, const Heads& heads, const Matrix& out,
                 float* lse) override {
    const int64_t d = heads.dimension, group = heads.query / heads.key_value;
    for (int64_t i = 0; i < q.rows; ++i)
      for (int64_t h = 0; h < heads.query; ++h) {
        const int64_t kv_at = h / group * d;
        std::vector<double> logits;
        std::vector<const float*> values;
        for (const Segment& segment : segments) {
          const int64_t keys = segment.kv.keys.rows;
          for (int64_t j = 0; j < (segment.causal ? std::min(keys, i + (keys - q.rows) + 1) : keys); ++j) {
            logits.push_back(dot(row(q, i) + h * d, row(segment.kv.keys, j) + kv_at, d) /
                             std::sqrt(static_cast<double>(d)));
            values.push_back(row(segment.kv.values, j) + kv_at);
          }
        }
        const double top = logits.empty() ? 0 : *std::max_element(logits.begin(), logits.end());
        std::vector<double> sum(static_cast<size_t>(d), 0.0);
        double total = 0;
        for (size_t j = 0; j < logits.size(); ++j) {
          const double p = std::exp(logits[j] - top);
          total += p;
          for (int64_t k = 0; k < d; ++k) sum[static_cast<size_t>(k)] += p * values[j][k];
        }
        for (int64_t k = 0; k < d; ++k)
          row(out, i)[h * d + k] = logits.empty() ? 0.0f : static_cast<float>(sum[static_cast<size_t>(k)] / total);
        if (lse)
          lse[i * heads.query + h] =
              logits.empty() ? -std::numeric_limits<float>::infinity() : static_cast<float>(top + std::log(total));
      }
  }
  void merge_attention(int64_t parts, const Matrix& outs, const float* lses, const Heads& heads, const Matrix& out,
                       float* merged_lse) override {
    for (int64_t i = 0; i < out.rows; ++i)
      for (int64_t h = 0; h < heads.query; ++h) {
        const auto lse = [&](int64_t p) -> double { return lses[(p * out.rows + i) * heads.query + h]; };
        double top = lse(0), total = 0;
        for (int64_t p = 1; p < parts; ++p) top = std::max(top, lse(p));
        for (int64_t p = 0; p < parts; ++p) total += std::exp(lse(p) - top);
        for (int64_t k = h * heads.dimension; k < (h + 1) * heads.dimension; ++k) {
          double sum = 0;
          for (int64_t p = 0; p < parts; ++p) sum += std::exp(lse(p) - top) * row(outs, p * out.rows + i)[k];
          row(out, i)[k] = static_cast<float>(sum / total);
        }
        if (merged_lse) merged_lse[i * heads.query + h] = static_cast<float>(top + std::log(total));
      }
  }

  void retaining_scores(const Matrix& qkv, const Linear& fc1, const Linear& fc2, float* scores) override {
    std::vector<float> hidden(static_cast<size_t>(fc1.out())), score(static_cast<size_t>(fc2.out()));
    const Matrix h{hidden.data(), 1, fc1.out(), fc1.out()}, s{score.data(), 1, fc2.out(), fc2.out()};
    for (int64_t i = 0; i < qkv.rows; ++i) {
      gemm({row(qkv, i), 1, qkv.columns, qkv.stride}, fc1, h, false);
      for (float& v : hidden) v = static_cast<float>(silu(v));
      gemm(h, fc2, s, false);
      for (int64_t k = 0; k < fc2.out(); ++k) scores[k * qkv.rows + i] = score[static_cast<size_t>(k)];
    }
  }
  void mean_query(const Matrix& q, const Heads& heads, float* mean) override {
    const int64_t d = heads.dimension, group = heads.query / heads.key_value;
    for (int64_t h = 0; h < heads.key_value; ++h)
      for (int64_t k = 0; k < d; ++k) {
        double sum = 0;
        for (int64_t i = 0; i < q.rows; ++i)
          for (int64_t g = h * group; g < (h + 1) * group; ++g) sum += row(q, i)[g * d + k];
        mean[h * d + k] = static_cast<float>(sum / static_cast<double>(q.rows * group));
      }
  }
  void query_scores(const float* mean, const Matrix& keys, const Heads& heads, float* scores, int64_t stride) override {
    for (int64_t h = 0; h < heads.key_value; ++h)
      for (int64_t t = 0; t < keys.rows; ++t)
        scores[h * stride + t] = static_cast<float>(
            dot(mean + h * heads.dimension, row(keys, t) + h * heads.dimension, heads.dimension));
  }
  void max_pool(float* scores, int64_t key_value_heads, int64_t rows) override {
    for (int64_t h = 0; h < key_value_heads; ++h) {
      const std::vector<float> raw(scores + h * rows, scores + (h + 1) * rows);
      for (int64_t i = 0; i < rows; ++i)
        scores[h * rows + i] =
            *std::max_element(raw.begin() + std::max<int64_t>(0, i - 2), raw.begin() + std::min(rows, i + 3));
    }
  }
  void top_indices(const float* scores, int64_t key_value_heads, int64_t rows, int64_t first, int64_t count,
                   int32_t* indices) override {
    for (int64_t h = 0; h < key_value_heads; ++h) {
      std::vector<int32_t> order(static_cast<size_t>(rows - first));
      std::iota(order.begin(), order.end(), static_cast<int32_t>(first));
      std::stable_sort(order.begin(), order.end(),
                       [&](int32_t a, int32_t b) { return scores[h * rows + a] > scores[h * rows + b]; });
      std::sort(order.begin(), order.begin() + count);
      std::copy_n(order.begin(), count, indices + h * count);
    }
  }
  void gather(const KeyValues& kv, const int32_t* indices, int64_t count, int64_t offset, const Heads& heads,
              const KeyValues& out) override {
    const int64_t d = heads.dimension;
    for (int64_t h = 0; h < heads.key_value; ++h)
      for (int64_t i = 0; i < count; ++i) {
        const int64_t from = indices[h * count + i] + offset;
        std::copy_n(row(kv.keys, from) + h * d, d, row(out.keys, i) + h * d);
        std::copy_n(row(kv.values, from) + h * d, d, row(out.values, i) + h * d);
      }
  }
  void logits(const Matrix& x, const Linear& head, float* out) override {
    gemm(x, head, {out, x.rows, head.out(), head.out()}, false);
  }

 private:
  /// Starts as NaN, so that a read of memory that nobody wrote shows.
  struct Memory : Buffer {
    explicit Memory(size_t bytes) : values((bytes + 3) / 4, std::numeric_limits<float>::quiet_NaN()), size(bytes) {}
    void* data() const override { return const_cast<float*>(values.data()); }
    size_t bytes() const override { return size; }
    std::vector<float> values;
    size_t size;
  };
  struct Weight : Linear {
    int64_t in() const override { return columns; }
    int64_t out() const override { return static_cast<int64_t>(bias.size()); }
    std::vector<float> weight, bias;  // [out, columns], [out]
    int64_t columns = 0;
  };

  static float* row(const Matrix& m, int64_t i) { return static_cast<float*>(m.data) + i * m.stride; }
  static double silu(double x) { return x / (1 + std::exp(-x)); }
  static double dot(const float* a, const float* b, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; ++i) sum += static_cast<double>(a[i]) * b[i];
    return sum;
  }
  static double half_value(uint16_t bits) {
    const int exponent = bits >> 10 & 31, mantissa = bits & 1023;
    const double sign = bits >> 15 ? -1 : 1;
    if (exponent == 31)
      return mantissa ? std::numeric_limits<double>::quiet_NaN() : sign * std::numeric_limits<double>::infinity();
    return sign * (exponent ? std::ldexp(1024 + mantissa, exponent - 25) : std::ldexp(mantissa, -24));
  }
  static void append(std::vector<float>& to, const HostTensor& tensor) {
    const auto count = static_cast<size_t>(tensor.rows * tensor.columns);
    for (size_t i = 0; i < count; ++i) {
      if (tensor.dtype == DType::F32) to.push_back(static_cast<const float*>(tensor.data)[i]);
      else if (const uint16_t bits = static_cast<const uint16_t*>(tensor.data)[i]; tensor.dtype == DType::BF16)
        to.push_back(std::bit_cast<float>(static_cast<uint32_t>(bits) << 16));
      else to.push_back(static_cast<float>(half_value(bits)));
    }
  }

  bool device_;
};

}  // namespace longhaul::testing
