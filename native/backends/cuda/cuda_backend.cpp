#include "cuda_backend.h"

#include <algorithm>

#include "attention.h"
#include "attention_plain.h"
#include "check.h"
#include "devices.h"
#include "gemm.h"
#include "gemv.h"
#include "linear.h"
#include "memory.h"
#include "query_scores.h"
#include "recording.h"
#include "rotary.h"
#include "rows.h"
#include "selection.h"
#include "side_stream.h"
#include "staging.h"

namespace longhaul::cuda {
namespace {

__nv_bfloat16* bf16(const Matrix& m) { return static_cast<__nv_bfloat16*>(m.data); }
__nv_bfloat16* bf16(const BufferPtr& buffer) { return static_cast<__nv_bfloat16*>(buffer->data()); }

size_t dtype_bytes(DType dtype) { return dtype == DType::F32 ? 4 : 2; }

class CudaBackend final : public Backend {
 public:
  CudaBackend(int index, const std::string& cublas_lt)
      : device_(std::make_shared<Device>(index)), staging_(device_), gemm_(device_, cublas_lt), rotary_(device_),
        counters_(device_, sizeof(StepCounters)) {}
  ~CudaBackend() override { cudaStreamSynchronize(device_->stream()); }

  std::string description() const override { return "cuda (" + device_->name() + ")"; }
  const std::string& cublas_lt() const { return gemm_.source(); }
  size_t element_bytes() const override { return 2; }
  bool host_memory() const override { return false; }
  bool whole_attention() const override { return true; }

  // ---- memory -------------------------------------------------------------------------------
  BufferPtr allocate(size_t bytes) override { return std::make_shared<DeviceBuffer>(device_, bytes); }
  size_t room() const override { return device_->room(); }
  BufferPtr allocate_host(size_t bytes) override {
    device_->use();
    return std::make_shared<PinnedBuffer>(bytes);
  }
  void upload(void* device, const void* host, size_t bytes) override {
    device_->use();
    staging_.upload(device, host, bytes);
  }
  void download(void* host, const void* device, size_t bytes) override {
    device_->use();
    staging_.download(host, device, bytes);
  }
  void copy(void* to, const void* from, size_t bytes) override {
    if (bytes == 0) return;
    device_->use();
    check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, device_->stream()), "copying on the GPU");
  }
  void clear(void* data, size_t bytes) override {
    device_->use();
    check(cudaMemsetAsync(data, 0, bytes, device_->stream()), "clearing GPU memory");
  }
  void copy_rows(void* to, size_t to_stride, const void* from, size_t from_stride, size_t row_bytes, int64_t rows) override {
    if (rows == 0 || row_bytes == 0) return;
    device_->use();
    check(cudaMemcpy2DAsync(to, to_stride, from, from_stride, row_bytes, static_cast<size_t>(rows), cudaMemcpyDeviceToDevice,
                            device_->stream()), "copying rows on the GPU");
  }
  void download_float(const Matrix& x, float* out) override {
    device_->use();
    const size_t bytes = static_cast<size_t>(x.rows * x.columns) * sizeof(float);
    auto* dense = static_cast<float*>(scratch_.bytes(device_, bytes));  // [T, n]
    to_float(*device_, x, dense);
    staging_.download(out, dense, bytes);
  }
  void synchronize() override {
    device_->use();
    check(cudaStreamSynchronize(device_->stream()), "the work enqueued so far");
  }
  std::string device_id() const override { return device_->uuid(); }
  std::unique_ptr<Stream> open_stream() override { return std::make_unique<SideStream>(device_); }

  // ---- weights ------------------------------------------------------------------------------
  LinearPtr load_linear(std::span<const LinearPart> parts) override {
    require(!parts.empty(), "a linear layer needs at least one weight");
    device_->use();
    const int64_t in = parts[0].weight.columns;
    int64_t out = 0;
    bool biased = false;
    for (const LinearPart& part : parts) {
      require(part.weight.columns == in, "stacked weights differ in their input width");
      require(!part.bias || part.bias->rows * part.bias->columns == part.weight.rows, "a bias differs from its weight's output width");
      out += part.weight.rows;
      biased = biased || part.bias;
    }
    auto linear = std::make_shared<DeviceLinear>(device_, in, out, biased);
    int64_t row = 0;
    for (const LinearPart& part : parts) {
      load(part.weight, linear->weight() + row * in);
      if (part.bias) load(*part.bias, linear->bias() + row);
      else if (biased)
        check(cudaMemsetAsync(linear->bias() + row, 0, static_cast<size_t>(part.weight.rows) * 2, device_->stream()), "clearing a bias");
      row += part.weight.rows;
    }
    return linear;
  }
  BufferPtr load_table(const HostTensor& tensor) override {
    device_->use();
    auto table = std::make_shared<DeviceBuffer>(device_, static_cast<size_t>(tensor.rows * tensor.columns) * 2);
    load(tensor, static_cast<__nv_bfloat16*>(table->data()));
    return table;
  }

  // ---- ops ----------------------------------------------------------------------------------
  void embed(const BufferPtr& table, std::span<const uint32_t> tokens, const Matrix& out) override {
    require(out.rows == static_cast<int64_t>(tokens.size()), "embed: one row of out per token");
    device_->use();
    if (recording_) return cuda::embed(*device_, bf16(table), &counters()->token, out);
    auto* list = static_cast<uint32_t*>(tokens_.bytes(device_, tokens.size_bytes()));  // [T]
    staging_.upload(list, tokens.data(), tokens.size_bytes());
    cuda::embed(*device_, bf16(table), list, out);
  }
  void rmsnorm(const Matrix& x, const BufferPtr& weight, float epsilon, const Matrix& out) override {
    device_->use();
    require(weight->bytes() == static_cast<size_t>(x.columns) * 2, "rmsnorm: weight differs in shape from x");
    cuda::rmsnorm(*device_, x, bf16(weight), epsilon, out);
  }
  void gemm(const Matrix& x, const Linear& weight, const Matrix& out, bool accumulate) override {
    device_->use();
    gemm_.multiply(x, on_device(weight), out, accumulate);
  }
  void gemm_slice(const Matrix& x, const Linear& linear, const Slice& slice, const Matrix& out) override {
    device_->use();
    const DeviceLinear& weight = on_device(linear);
    require(x.columns == slice.ins && out.columns == slice.outs && x.rows == out.rows && slice.first_in + slice.ins <= weight.in() &&
                slice.first_out + slice.outs <= weight.out(),
            "gemm_slice: x, weight, slice and out differ in shape");
    const bool biased = weight.bias() && slice.first_in == 0;
    const WeightView part{weight.weight() + slice.first_out * weight.in() + slice.first_in,
                          biased ? weight.bias() + slice.first_out : nullptr, slice.ins, slice.outs, weight.in()};
    gemv(*device_, x, part, bf16(out), nullptr, out.stride, false);
  }
  void add_parts(int64_t count, const Matrix& parts, const Matrix& x) override {
    device_->use();
    cuda::add_parts(*device_, count, parts, x);
  }
  void rope(const Matrix& x, int64_t heads, std::span<const int32_t> positions, const Rope& rope) override {
    device_->use();
    require(x.rows == static_cast<int64_t>(positions.size()), "rope: one position per row");
    rotary_.apply(x, heads, on_gpu(positions), rope);
  }
  void split_heads(const Matrix& qkv, const Heads& heads, int32_t first, const Rope& rope, const Matrix& q, const KeyValues& kv) override {
    device_->use();
    const SplitRows parts{q, kv.keys, kv.values};
    if (recording_) rotary_.split(qkv, heads, {&counters()->position, 0}, rope, parts, {&counters()->rows, recorded_.rows});
    else rotary_.split(qkv, heads, {nullptr, first}, rope, parts);
  }
  void swiglu(const Matrix& gate_up, const Matrix& out) override {
    device_->use();
    cuda::swiglu(*device_, gate_up, out);
  }

  void attention(const Matrix& q, std::span<const Segment> segments, const Heads& heads, const Matrix& out, float* lse) override {
    device_->use();
    const int64_t width = heads.key_value * heads.dimension;
    require(q.columns == heads.query * heads.dimension && out.columns == q.columns && out.rows == q.rows, "attention: q and out differ in shape from the heads");
    std::vector<AttentionSegment> list;
    for (const Segment& segment : segments) {
      const auto& [keys, values] = segment.kv;
      require(keys.columns == width && values.columns == width && keys.rows == values.rows, "attention: keys and values differ in shape from the heads");
      const bool grows = recording_ && segment.capacity > 0;
      if (keys.rows > 0)
        list.push_back({bf16(keys), bf16(values), grows ? segment.capacity : keys.rows, keys.stride, values.stride, segment.causal,
                        grows ? &counters()->rows : nullptr});
    }
    if (q.rows == 0) return;
    const AttentionShape shape{q.rows, heads.query, heads.key_value, heads.dimension};
    if (attention_supported(shape, bf16(q), q.stride, bf16(out), out.stride, list)) {
      void* workspace = attention_scratch_.bytes(device_, attention_workspace_bytes(shape));
      return cuda::attention(device_->stream(), bf16(q), q.stride, shape, list, bf16(out), out.stride, lse, workspace);
    }
    attention_plain(*device_, bf16(q), q.stride, shape, list, bf16(out), out.stride, lse);
  }
  void merge_attention(int64_t parts, const Matrix& outs, const float* lses, const Heads& heads, const Matrix& out, float* merged_lse) override {
    device_->use();
    require(outs.rows == parts * out.rows && outs.columns == out.columns && out.columns == heads.query * heads.dimension,
            "merge_attention: outs and out differ in shape from the heads");
    cuda::merge_attention(*device_, parts, out.rows, bf16(outs), outs.stride, lses, heads.query, heads.dimension, bf16(out), out.stride, merged_lse);
  }

  void retaining_scores(const Matrix& qkv, const Linear& fc1, const Linear& fc2, float* scores) override {
    device_->use();
    require(qkv.columns == fc1.in() && fc1.out() == fc2.in(), "retaining_scores: qkv, fc1 and fc2 differ in shape");
    const size_t bytes = static_cast<size_t>(qkv.rows * fc1.out()) * 2;
    auto* hidden = static_cast<__nv_bfloat16*>(scratch_.bytes(device_, bytes));  // [T, R]
    gemm_.multiply(qkv, on_device(fc1), {hidden, qkv.rows, fc1.out(), fc1.out()}, false);
    score_hidden(*device_, hidden, qkv.rows, on_device(fc2), scores);
  }
  void mean_query(const Matrix& q, const Heads& heads, float* mean) override {
    device_->use();
    cuda::mean_query(*device_, q, heads, mean);
  }
  void query_scores(const float* mean, const Matrix& keys, const Heads& heads, float* scores, int64_t stride) override {
    device_->use();
    cuda::query_scores(*device_, mean, keys, heads, scores, stride);
  }
  void max_pool(float* scores, int64_t key_value_heads, int64_t rows) override {
    device_->use();
    const size_t bytes = static_cast<size_t>(key_value_heads * rows) * sizeof(float);
    auto* before = static_cast<float*>(scratch_.bytes(device_, bytes));  // [NK, T]
    copy(before, scores, bytes);
    cuda::max_pool(*device_, before, scores, key_value_heads, rows);
  }
  void top_indices(const float* scores, int64_t key_value_heads, int64_t rows, int64_t first, int64_t count, int32_t* indices) override {
    device_->use();
    cuda::top_indices(*device_, scores, key_value_heads, rows, first, count, indices);
  }
  void gather(const KeyValues& kv, const int32_t* indices, int64_t count, int64_t offset, const Heads& heads, const KeyValues& out) override {
    device_->use();
    cuda::gather(*device_, kv, indices, count, offset, heads, out);
  }

  void logits(const Matrix& x, const Linear& head, float* out) override {
    device_->use();
    const size_t bytes = static_cast<size_t>(x.rows * head.out()) * sizeof(float);
    auto* dense = static_cast<float*>(scratch_.bytes(device_, bytes));  // [T, V]
    gemm_.multiply_float(x, on_device(head), dense);
    staging_.download(out, dense, bytes);
  }

  // ---- repeated steps -----------------------------------------------------------------------
  std::unique_ptr<Recording> record(const Step& step, const std::function<void()>& body) override {
    body();  // runs this step, and makes every scratch buffer as large as the capture needs it
    recording_ = true;
    recorded_ = step;
    std::unique_ptr<Recording> graph;
    try {
      graph = std::make_unique<Graph>(device_, body);
    } catch (...) {
      recording_ = false;
      throw;
    }
    recording_ = false;
    return graph;
  }
  void replay(const Recording& recording, const Step& step) override {
    device_->use();
    const StepCounters now{step.token, step.position, step.rows};
    staging_.upload(counters(), &now, sizeof now);
    static_cast<const Graph&>(recording).launch();
  }

 private:
  StepCounters* counters() { return static_cast<StepCounters*>(counters_.data()); }

  /// A tensor into bfloat16 device memory, rounded where it is wider.
  void load(const HostTensor& tensor, __nv_bfloat16* to) {
    const size_t bytes = static_cast<size_t>(tensor.rows * tensor.columns) * dtype_bytes(tensor.dtype);
    if (tensor.dtype == DType::BF16) return staging_.upload(to, tensor.data, bytes);
    const DeviceBuffer wide(device_, bytes);
    staging_.upload(wide.data(), tensor.data, bytes);
    to_bf16(*device_, wide.data(), tensor.dtype, to, tensor.rows * tensor.columns);
  }

  /// Consecutive positions travel as the first one.
  Positions on_gpu(std::span<const int32_t> positions) {
    if (positions.empty()) return {};
    for (size_t i = 1; i < positions.size(); ++i) {
      if (positions[i] == positions[0] + static_cast<int32_t>(i)) continue;
      auto* list = static_cast<int32_t*>(positions_.bytes(device_, positions.size_bytes()));  // [T]
      staging_.upload(list, positions.data(), positions.size_bytes());
      return {list, 0};
    }
    return {nullptr, positions[0]};
  }

  DevicePtr device_;
  Staging staging_;
  Gemm gemm_;
  Rotary rotary_;
  Scratch scratch_;            // of one op at a time
  Scratch attention_scratch_;
  Scratch tokens_, positions_;
  DeviceBuffer counters_;      // StepCounters
  bool recording_ = false;     // ops are being captured: they take from counters_ what changes
  Step recorded_;              // of the step being captured
};

}  // namespace

std::shared_ptr<Backend> make(const DeviceOptions& options) {
  std::vector<std::string> missing;
  const int index = find_device(options, missing);
  if (!missing.empty()) throw EngineError("unsupported", "the CUDA backend needs " + missing.front());
  return std::make_shared<CudaBackend>(index, options.cublas_lt);
}

}  // namespace longhaul::cuda
