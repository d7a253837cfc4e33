// The seam between the forward pass and a device.
//
// The transformer (native/engine) is written once over these ops; `backends/cpu` implements them
// in C++ and `backends/cuda` as sm_90a kernels. A backend owns its memory: the engine only holds
// `Matrix` views into buffers that it asked for, and never dereferences them.
//
// Symbols in shapes: T rows (tokens), C hidden size, NQ query heads, NK key/value heads, D head
// dimension, F width of the MLP, R width of a retaining head, V vocabulary.
//
// Numbers: activations, keys and values have the backend's element type (`element_bytes()`:
// 4 = float32, 2 = bfloat16); LSE, scores and logits are float32 everywhere.
//
// Order: every op is enqueued in call order and sees the results of the ones before it.
// `download` and `synchronize` wait. A backend is used by one thread at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "stream.h"

namespace longhaul {

/// A view of device memory: `rows` x `columns` elements, `stride` elements from row to row.
struct Matrix {
  void* data = nullptr;
  int64_t rows = 0;
  int64_t columns = 0;
  int64_t stride = 0;
};

/// Memory of a backend; freed when the last owner lets go.
class Buffer {
 public:
  virtual ~Buffer() = default;
  virtual void* data() const = 0;
  virtual size_t bytes() const = 0;
};
using BufferPtr = std::shared_ptr<Buffer>;

/// Element types of tensors in a checkpoint.
enum class DType { F32, F16, BF16 };

/// A tensor in host memory (usually mmapped), row-major: [rows, columns]; a vector has rows = 1.
struct HostTensor {
  const void* data = nullptr;
  DType dtype = DType::F32;
  int64_t rows = 0;
  int64_t columns = 0;
};

/// A linear layer's weight in the layout that the backend's GEMM likes, with an optional bias.
class Linear {
 public:
  virtual ~Linear() = default;
  virtual int64_t in() const = 0;   // columns of x
  virtual int64_t out() const = 0;  // columns of y
};
using LinearPtr = std::shared_ptr<Linear>;

/// Rotary position embedding: `inverse_frequencies` [D/2] already carries the scaling.
struct Rope {
  std::vector<double> inverse_frequencies;
};

/// Keys and values of one contiguous piece of context, as one head group after another in a row:
/// `keys` and `values` are [T, NK*D]. Pieces are never concatenated: attention walks a list.
struct KeyValues {
  Matrix keys;    // [T, NK*D], post-RoPE
  Matrix values;  // [T, NK*D]
};

/// What the query rows of one attention call may see of one piece.
struct Segment {
  KeyValues kv;
  /// false: every query row sees every key. true: query row i sees keys j <= i + (keys - queries)
  /// (the causal mask aligned at the end, so that the last query sees the last key).
  bool causal = false;
  /// Rows that the piece may grow to while a recorded step is replayed; 0: it does not grow. The values of
  /// rows that are not there yet must be finite: they are read, and weighed with 0.
  int64_t capacity = 0;
};

/// Shape of an attention call.
struct Heads {
  int64_t query = 0;      // NQ
  int64_t key_value = 0;  // NK, divides NQ
  int64_t dimension = 0;  // D
};

class Backend {
 public:
  virtual ~Backend() = default;

  /// "cpu (avx2, 2 threads)" or "cuda (NVIDIA H100 80GB HBM3)": for logs and outcomes.
  virtual std::string description() const = 0;
  /// Bytes of one activation, key or value element: 4 or 2.
  virtual size_t element_bytes() const = 0;
  /// True when device memory can be read and written by the host directly (the CPU backend).
  virtual bool host_memory() const = 0;
  /// True when attention is best given all rows of a piece at once, and can write over its queries.
  virtual bool whole_attention() const { return false; }

  // ---- memory -------------------------------------------------------------------------------
  /// Uninitialised memory. Throws EngineError("out_of_memory") with the size asked for.
  virtual BufferPtr allocate(size_t bytes) = 0;
  /// Bytes that `allocate` can still give, about.
  virtual size_t room() const { return std::numeric_limits<size_t>::max(); }
  virtual void upload(void* device, const void* host, size_t bytes) = 0;
  virtual void download(void* host, const void* device, size_t bytes) = 0;
  /// Device to device; the ranges may not overlap.
  virtual void copy(void* to, const void* from, size_t bytes) = 0;
  /// Fills with zeros.
  virtual void clear(void* data, size_t bytes) = 0;
  /// `rows` pieces of `row_bytes` bytes, strides in bytes: one piece of a fused row (q, k or v) to
  /// its own matrix. A device with a two-dimensional copy overrides the loop.
  virtual void copy_rows(void* to, size_t to_stride, const void* from, size_t from_stride,
                         size_t row_bytes, int64_t rows) {
    for (int64_t i = 0; i < rows; ++i)
      copy(static_cast<std::byte*>(to) + static_cast<size_t>(i) * to_stride,
           static_cast<const std::byte*>(from) + static_cast<size_t>(i) * from_stride, row_bytes);
  }
  /// Host memory that the device copies from and to without a detour.
  virtual BufferPtr allocate_host(size_t bytes) = 0;
  /// Converts activations to float32 in host memory: x [T, n] -> out [T*n], dense rows.
  virtual void download_float(const Matrix& x, float* out) = 0;
  /// Waits until every op enqueued so far has finished; throws what they failed with.
  virtual void synchronize() = 0;

  // ---- collectives of device memory -----------------------------------------------------------
  /// What no other device in the world is called (16 bytes); empty: nothing to address collectives to.
  virtual std::string device_id() const { return {}; }
  /// A stream beside the backend's own; null where device_id() is empty.
  virtual std::unique_ptr<Stream> open_stream() { return nullptr; }

  // ---- weights ------------------------------------------------------------------------------
  /// weight [out, in], bias [1, out] or null. `parts` are stacked along `out` into one GEMM
  /// (q, k and v; gate and up). Either all parts have a bias or the missing ones count as zero.
  struct LinearPart {
    HostTensor weight;
    const HostTensor* bias = nullptr;
  };
  virtual LinearPtr load_linear(std::span<const LinearPart> parts) = 0;
  /// A table or vector in the backend's element type: [rows, columns] (embedding, norm weights).
  virtual BufferPtr load_table(const HostTensor& tensor) = 0;

  // ---- ops ----------------------------------------------------------------------------------
  /// out [T, C] = table[tokens[t]]; table [V, C] from load_table. Tokens are checked by the caller.
  virtual void embed(const BufferPtr& table, std::span<const uint32_t> tokens, const Matrix& out) = 0;

  /// out [T, C] = x / sqrt(mean(x^2) + epsilon) * weight; weight [C] from load_table.
  /// out may be x.
  virtual void rmsnorm(const Matrix& x, const BufferPtr& weight, float epsilon, const Matrix& out) = 0;

  /// out [T, out] = x [T, in] * weight^T + bias; with `accumulate`, out += (the residual add).
  virtual void gemm(const Matrix& x, const Linear& weight, const Matrix& out, bool accumulate) = 0;

  /// A rectangle of a weight [out, in].
  struct Slice {
    int64_t first_out, outs, first_in, ins;
  };
  /// out [T, outs] = x [T, ins] * slice^T, and the bias of these outputs where the slice begins at input 0, so that
  /// the sum over slices that share out a weight's inputs has it once. For few rows.
  virtual void gemm_slice(const Matrix& x, const Linear& weight, const Slice& slice, const Matrix& out) = 0;

  /// x [T, C] += the sum of `count` parts [T, C], which lie one after the other in `parts` [count * T, C]; summed in
  /// this order in float32, so that whoever has the same parts gets the same bits.
  virtual void add_parts(int64_t count, const Matrix& parts, const Matrix& x) = 0;

  /// Rotates in place: x [T, heads*D] at `positions` [T]; rotate_half layout (i pairs with i + D/2).
  virtual void rope(const Matrix& x, int64_t heads, std::span<const int32_t> positions,
                    const Rope& rope) = 0;

  /// The parts of qkv [T, (NQ+2NK)*D] in matrices of their own, q and k rotated as by `rope` at
  /// positions first, first + 1, ...; qkv's contents are lost. A device does it in one pass.
  virtual void split_heads(const Matrix& qkv, const Heads& heads, int32_t first, const Rope& rope, const Matrix& q,
                           const KeyValues& kv) {
    std::vector<int32_t> positions(static_cast<size_t>(qkv.rows));
    for (size_t i = 0; i < positions.size(); ++i) positions[i] = first + static_cast<int32_t>(i);
    const auto part = [&](int64_t head, int64_t count) {
      const size_t skip = static_cast<size_t>(head * heads.dimension) * element_bytes();
      return Matrix{static_cast<std::byte*>(qkv.data) + skip, qkv.rows, count * heads.dimension, qkv.stride};
    };
    const auto move = [&](const Matrix& to, const Matrix& from) {
      copy_rows(to.data, static_cast<size_t>(to.stride) * element_bytes(), from.data,
                static_cast<size_t>(from.stride) * element_bytes(), static_cast<size_t>(from.columns) * element_bytes(),
                from.rows);
    };
    this->rope(part(0, heads.query + heads.key_value), heads.query + heads.key_value, positions, rope);
    move(q, part(0, heads.query));
    move(kv.keys, part(heads.query, heads.key_value));
    move(kv.values, part(heads.query + heads.key_value, heads.key_value));
  }

  /// out [T, F] = silu(gate_up[:, :F]) * gate_up[:, F:]; gate_up [T, 2F]. out may be gate_up[:, :F].
  virtual void swiglu(const Matrix& gate_up, const Matrix& out) = 0;

  /// Softmax attention of q [T, NQ*D] over the union of the segments, scaled by 1/sqrt(D).
  /// out [T, NQ*D]; lse [T, NQ] float32 (natural log of the sum of exp of scaled logits) or null.
  /// A row that sees no key has out 0 and lse -inf. Memory grows with T, never with T x keys.
  /// out may be q where `whole_attention()` says so.
  virtual void attention(const Matrix& q, std::span<const Segment> segments, const Heads& heads,
                         const Matrix& out, float* lse) = 0;

  /// Merges partial attention over disjoint keys (log-sum-exp): outs [parts, T, NQ*D] and
  /// lses [parts, T, NQ] float32, part after part -> out [T, NQ*D], merged_lse [T, NQ] or null.
  virtual void merge_attention(int64_t parts, const Matrix& outs, const float* lses,
                               const Heads& heads, const Matrix& out, float* merged_lse) = 0;

  /// Retaining scores (Locret): fc2(silu(fc1(qkv))), one per row and KV head, before RoPE.
  /// qkv [T, (NQ+2NK)*D] -> scores [NK, T] float32 device memory, not pooled.
  virtual void retaining_scores(const Matrix& qkv, const Linear& fc1, const Linear& fc2,
                                float* scores) = 0;

  /// Training-free scores (Spava, 2601.21444), first half: the mean of q [L, NQ*D] (after RoPE) over
  /// its rows and over the NQ/NK query heads of each KV head -> mean [NK*D] float32 device memory.
  virtual void mean_query(const Matrix& q, const Heads& heads, float* mean) = 0;

  /// Second half: scores[h * stride + t] = mean[h] . keys[t, h], float32 device memory, not pooled;
  /// keys [T, NK*D] after RoPE, T <= stride.
  virtual void query_scores(const float* mean, const Matrix& keys, const Heads& heads, float* scores,
                            int64_t stride) = 0;

  /// In place along each row of scores [NK, T]: maximum over 5 neighbours (2 on either side).
  virtual void max_pool(float* scores, int64_t key_value_heads, int64_t rows) = 0;

  /// Best `count` of scores[h, first .. rows), ties to the lower index -> indices [NK, count]
  /// int32 device memory, ascending in each head, counted from row 0 of `scores`.
  virtual void top_indices(const float* scores, int64_t key_value_heads, int64_t rows, int64_t first,
                           int64_t count, int32_t* indices) = 0;

  /// out[i, h] = kv[indices[h, i] + offset, h] for keys and for values; indices [NK, count];
  /// out.keys and out.values [count, NK*D].
  virtual void gather(const KeyValues& kv, const int32_t* indices, int64_t count, int64_t offset,
                      const Heads& heads, const KeyValues& out) = 0;

  /// logits [T, V] float32 host memory = x [T, C] * head^T; head [V, C] as loaded (no rounding).
  virtual void logits(const Matrix& x, const Linear& head, float* out) = 0;

  // ---- repeated steps -------------------------------------------------------------------------
  /// What changes from one decoded token to the next.
  struct Step {
    uint32_t token = 0;    // of embed
    int32_t position = 0;  // of split_heads
    int32_t rows = 0;      // of the segments that grow, this token's row included
  };
  /// A step that can be enqueued again as one piece, for other values.
  class Recording {
   public:
    virtual ~Recording() = default;
  };
  /// Runs `body`, the ops of one step for one token. The recording stays good as long as everything that the
  /// ops were given lives and no segment has outgrown its capacity; null: this backend has none.
  virtual std::unique_ptr<Recording> record(const Step& step, const std::function<void()>& body) {
    static_cast<void>(step);
    body();
    return nullptr;
  }
  /// Enqueues a recording of this backend; split_heads and attention then count rows from `step`.
  virtual void replay(const Recording& recording, const Step& step) {
    static_cast<void>(recording), static_cast<void>(step);
  }
};

}  // namespace longhaul
