#include "cpu_backend.h"

#include <cstring>

#include "attention.h"
#include "convert.h"
#include "gemm.h"
#include "isa.h"
#include "rotary.h"
#include "selection.h"
#include "with_kernels.h"

namespace longhaul {
namespace cpu {
namespace {

class CpuBackend final : public Backend {
 public:
  CpuBackend(const Kernels& kernels, int threads, size_t document_memory)
      : context_(kernels, threads), room_(std::make_shared<Room>(document_memory)) {}

  std::string description() const override {
    const int threads = context_.pool.threads();
    return std::string("cpu (") + context_.kernels.name + ", " + std::to_string(threads) +
           (threads == 1 ? " thread)" : " threads)");
  }
  size_t element_bytes() const override { return sizeof(float); }
  bool host_memory() const override { return true; }

  BufferPtr allocate(size_t bytes) override { return room_->allocate(bytes); }
  size_t room() const override { return room_->left(); }
  BufferPtr allocate_host(size_t bytes) override { return allocate(bytes); }
  void upload(void* device, const void* host, size_t bytes) override { copy(device, host, bytes); }
  void download(void* host, const void* device, size_t bytes) override { copy(host, device, bytes); }
  void clear(void* data, size_t bytes) override { std::memset(data, 0, bytes); }
  void copy(void* to, const void* from, size_t bytes) override {
    if (bytes > 0) std::memcpy(to, from, bytes);
  }
  void download_float(const Matrix& x, float* out) override {
    for (int64_t i = 0; i < x.rows; ++i) copy(out + i * x.columns, row(x, i), row_bytes(x));
  }
  void synchronize() override {}  // every op is finished when it returns

  LinearPtr load_linear(std::span<const LinearPart> parts) override {
    return std::make_shared<PackedLinear>(parts, context_.kernels);
  }
  BufferPtr load_table(const HostTensor& tensor) override {
    auto table = std::make_shared<AlignedBuffer>(static_cast<size_t>(tensor.rows * tensor.columns) * sizeof(float));
    for (int64_t i = 0; i < tensor.rows; ++i) convert_row(tensor, i, table->floats() + i * tensor.columns);
    return table;
  }

  void embed(const BufferPtr& table, std::span<const uint32_t> tokens, const Matrix& out) override {
    require(out.rows == static_cast<int64_t>(tokens.size()), "embed: one row of out per token");
    const float* rows = floats(table);
    for (int64_t i = 0; i < out.rows; ++i)
      copy(row(out, i), rows + tokens[static_cast<size_t>(i)] * out.columns, row_bytes(out));
  }

  void rmsnorm(const Matrix& x, const BufferPtr& weight, float epsilon, const Matrix& out) override {
    require(x.rows == out.rows && x.columns == out.columns, "rmsnorm: x and out differ in shape");
    require(weight->bytes() == row_bytes(x), "rmsnorm: weight differs in shape from x");
    each_row(x, 4, [&](int64_t i) {
      context_.kernels.rmsnorm(row(x, i), floats(weight), epsilon, x.columns, row(out, i));
    });
  }

  void gemm(const Matrix& x, const Linear& weight, const Matrix& out, bool accumulate) override {
    cpu::gemm(context_, x, packed(weight), out, accumulate);
  }

  void gemm_slice(const Matrix& x, const Linear& weight, const Slice& slice, const Matrix& out) override {
    cpu::gemm_slice(x, packed(weight), slice, out);
  }
  void add_parts(int64_t count, const Matrix& parts, const Matrix& x) override {
    require(parts.rows == count * x.rows && parts.columns == x.columns, "add_parts: parts and x differ in shape");
    for (int64_t i = 0; i < x.rows; ++i)
      for (int64_t c = 0; c < x.columns; ++c) {
        float sum = 0;
        for (int64_t p = 0; p < count; ++p) sum += row(parts, p * x.rows + i)[c];
        row(x, i)[c] += sum;
      }
  }

  void rope(const Matrix& x, int64_t heads, std::span<const int32_t> positions, const Rope& rope) override {
    rotary_.apply(context_, x, heads, positions, rope);
  }

  void swiglu(const Matrix& gate_up, const Matrix& out) override {
    require(gate_up.rows == out.rows && gate_up.columns == 2 * out.columns, "swiglu: gate_up and out differ in shape");
    each_row(gate_up, 10, [&](int64_t i) {
      context_.kernels.swiglu(row(gate_up, i), row(gate_up, i) + out.columns, out.columns, row(out, i));
    });
  }

  void attention(const Matrix& q, std::span<const Segment> segments, const Heads& heads, const Matrix& out,
                 float* lse) override {
    cpu::attention(context_, q, segments, heads, out, lse);
  }
  void merge_attention(int64_t parts, const Matrix& outs, const float* lses, const Heads& heads,
                       const Matrix& out, float* merged_lse) override {
    cpu::merge_attention(context_, parts, outs, lses, heads, out, merged_lse);
  }

  void retaining_scores(const Matrix& qkv, const Linear& fc1, const Linear& fc2, float* scores) override {
    cpu::retaining_scores(context_, qkv, packed(fc1), packed(fc2), scores);
  }
  void mean_query(const Matrix& q, const Heads& heads, float* mean) override { cpu::mean_query(q, heads, mean); }
  void query_scores(const float* mean, const Matrix& keys, const Heads& heads, float* scores, int64_t stride) override {
    cpu::query_scores(context_, mean, keys, heads, scores, stride);
  }
  void max_pool(float* scores, int64_t key_value_heads, int64_t rows) override {
    cpu::max_pool(context_, scores, key_value_heads, rows);
  }
  void top_indices(const float* scores, int64_t key_value_heads, int64_t rows, int64_t first, int64_t count,
                   int32_t* indices) override {
    cpu::top_indices(context_, scores, key_value_heads, rows, first, count, indices);
  }
  void gather(const KeyValues& kv, const int32_t* indices, int64_t count, int64_t offset, const Heads& heads,
              const KeyValues& out) override {
    cpu::gather(kv, indices, count, offset, heads, out);
  }

  void logits(const Matrix& x, const Linear& head, float* out) override {
    cpu::gemm(context_, x, packed(head), {out, x.rows, head.out(), head.out()}, false);
  }

 private:
  static const float* floats(const BufferPtr& buffer) { return static_cast<const float*>(buffer->data()); }
  static const PackedLinear& packed(const Linear& linear) { return static_cast<const PackedLinear&>(linear); }
  static size_t row_bytes(const Matrix& x) { return static_cast<size_t>(x.columns) * sizeof(float); }

  /// body(i) for each row of x, which costs about `work` operations per element.
  template <class Body>
  void each_row(const Matrix& x, double work, const Body& body) {
    const bool parallel = work * static_cast<double>(x.rows * x.columns) > kWorthWaking;
    context_.pool.run(x.rows, parallel, [&](int64_t i, int) { body(i); });
  }

  Context context_;
  Rotary rotary_;
  std::shared_ptr<Room> room_;
};

}  // namespace

std::shared_ptr<Backend> backend_with_kernels(const Kernels& kernels, int threads, size_t document_memory) {
  require(threads > 0, "threads must be at least 1");
  return std::make_shared<CpuBackend>(kernels, threads, document_memory);
}

}  // namespace cpu

std::shared_ptr<Backend> make_cpu_backend(const CpuOptions& options) {
  return cpu::backend_with_kernels(cpu::kernels_for(options.isa, options.precision), options.threads,
                                   options.document_memory);
}

}  // namespace longhaul
