// Bound by memory: 16 bytes per access where the rows allow it, each element read and written once.
#include <cuda_fp16.h>

#include "bf16.h"
#include "check.h"
#include "rows.h"

namespace longhaul::cuda {
namespace {

constexpr int kThreads = 256;

struct View {
  __nv_bfloat16* data;
  int64_t stride;
  int columns;
  __device__ __nv_bfloat16* row(int64_t i) const { return data + i * stride; }
};

View view(const Matrix& m) { return {static_cast<__nv_bfloat16*>(m.data), m.stride, static_cast<int>(m.columns)}; }

bool packed(const Matrix& m) { return packs_of_8(m.data, m.stride, m.columns); }

template <int N>
__global__ void embed_kernel(const __nv_bfloat16* table, const uint32_t* tokens, const View out) {
  const __nv_bfloat16* from = table + static_cast<int64_t>(tokens[blockIdx.x]) * out.columns;
  __nv_bfloat16* to = out.row(blockIdx.x);
  for (int c = threadIdx.x * N; c < out.columns; c += kThreads * N)
    *reinterpret_cast<Pack<N>*>(to + c) = *reinterpret_cast<const Pack<N>*>(from + c);
}

/// One block per row. A row of up to kThreads * N * kKept elements stays in registers.
template <int N>
__global__ void __launch_bounds__(kThreads) rmsnorm_kernel(const View x, const __nv_bfloat16* weight, float epsilon, const View out) {
  constexpr int kKept = 4;
  __shared__ float partial[kThreads / 32];
  const __nv_bfloat16* from = x.row(blockIdx.x);
  float kept[kKept][N], squares = 0;
#pragma unroll
  for (int i = 0; i < kKept; ++i) {
    const int c = (i * kThreads + static_cast<int>(threadIdx.x)) * N;
    if (c >= x.columns) break;
    load_floats<N>(from + c, kept[i]);
#pragma unroll
    for (int j = 0; j < N; ++j) squares += kept[i][j] * kept[i][j];
  }
  for (int c = (kKept * kThreads + static_cast<int>(threadIdx.x)) * N; c < x.columns; c += kThreads * N) {
    float values[N];
    load_floats<N>(from + c, values);
#pragma unroll
    for (int j = 0; j < N; ++j) squares += values[j] * values[j];
  }
  squares = warp_sum(squares);
  if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = squares;
  __syncthreads();
  float total = 0;
#pragma unroll
  for (int i = 0; i < kThreads / 32; ++i) total += partial[i];
  const float factor = rsqrtf(total / static_cast<float>(x.columns) + epsilon);

  const auto finish = [&](float (&values)[N], int c) {
    float w[N];
    load_floats<N>(weight + c, w);
#pragma unroll
    for (int j = 0; j < N; ++j) values[j] = __bfloat162float(__float2bfloat16_rn(values[j] * factor)) * w[j];
    store_floats<N>(out.row(blockIdx.x) + c, values);
  };
#pragma unroll
  for (int i = 0; i < kKept; ++i) {
    const int c = (i * kThreads + static_cast<int>(threadIdx.x)) * N;
    if (c >= x.columns) break;
    finish(kept[i], c);
  }
  for (int c = (kKept * kThreads + static_cast<int>(threadIdx.x)) * N; c < x.columns; c += kThreads * N) {
    float values[N];
    load_floats<N>(from + c, values);  // only this thread writes it, in place or not
    finish(values, c);
  }
}

/// Two packs per thread, so that four loads are in flight.
template <int N>
__global__ void __launch_bounds__(kThreads) swiglu_kernel(const View gate_up, const View out, int pieces) {
  constexpr int kPacks = 2;
  const int64_t row = blockIdx.x / static_cast<unsigned>(pieces);
  const int piece = static_cast<int>(blockIdx.x % static_cast<unsigned>(pieces));
  const int first = (piece * kPacks * kThreads + static_cast<int>(threadIdx.x)) * N;
  const __nv_bfloat16* from = gate_up.row(row);
  float gate[kPacks][N], up[kPacks][N];
#pragma unroll
  for (int p = 0; p < kPacks; ++p) {
    const int c = first + p * kThreads * N;
    if (c >= out.columns) break;
    load_floats<N>(from + c, gate[p]);
    load_floats<N>(from + out.columns + c, up[p]);
  }
#pragma unroll
  for (int p = 0; p < kPacks; ++p) {
    const int c = first + p * kThreads * N;
    if (c >= out.columns) break;
#pragma unroll
    for (int i = 0; i < N; ++i) gate[p][i] = silu(gate[p][i]) * up[p][i];
    store_floats<N>(out.row(row) + c, gate[p]);
  }
}

template <class From>
__global__ void to_bf16_kernel(const From* from, __nv_bfloat16* to, int64_t n) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i < n) to[i] = __float2bfloat16_rn(static_cast<float>(from[i]));
}

__global__ void to_float_kernel(const View x, float* to, int64_t n) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i < n) to[i] = __bfloat162float(x.row(i / x.columns)[i % x.columns]);
}

__global__ void add_parts_kernel(const View parts, const View x, int64_t count, int64_t rows) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= rows * x.columns) return;
  const int64_t row = i / x.columns, column = i % x.columns;
  float sum = 0;
  for (int64_t p = 0; p < count; ++p) sum += __bfloat162float(parts.row(p * rows + row)[column]);
  __nv_bfloat16& to = x.row(row)[column];
  to = __float2bfloat16_rn(__bfloat162float(to) + sum);
}

unsigned blocks(int64_t n, int64_t each = kThreads) { return static_cast<unsigned>((n + each - 1) / each); }

}  // namespace

void embed(const Device& device, const __nv_bfloat16* table, const uint32_t* tokens, const Matrix& out) {
  if (out.rows == 0) return;
  const auto grid = static_cast<unsigned>(out.rows);
  if (packed(out)) embed_kernel<8><<<grid, kThreads, 0, device.stream()>>>(table, tokens, view(out));
  else embed_kernel<1><<<grid, kThreads, 0, device.stream()>>>(table, tokens, view(out));
  check_launch("embed");
}

void rmsnorm(const Device& device, const Matrix& x, const __nv_bfloat16* weight, float epsilon, const Matrix& out) {
  require(x.rows == out.rows && x.columns == out.columns, "rmsnorm: x and out differ in shape");
  if (x.rows == 0) return;
  const auto grid = static_cast<unsigned>(x.rows);
  if (packed(x) && packed(out)) rmsnorm_kernel<8><<<grid, kThreads, 0, device.stream()>>>(view(x), weight, epsilon, view(out));
  else rmsnorm_kernel<1><<<grid, kThreads, 0, device.stream()>>>(view(x), weight, epsilon, view(out));
  check_launch("rmsnorm");
}

void swiglu(const Device& device, const Matrix& gate_up, const Matrix& out) {
  require(gate_up.rows == out.rows && gate_up.columns == 2 * out.columns, "swiglu: gate_up and out differ in shape");
  if (out.rows == 0) return;
  if (packed(gate_up) && packed(out)) {
    const auto pieces = static_cast<int>(blocks(out.columns, kThreads * 2 * 8));
    swiglu_kernel<8><<<static_cast<unsigned>(out.rows * pieces), kThreads, 0, device.stream()>>>(view(gate_up), view(out), pieces);
  } else {
    const auto pieces = static_cast<int>(blocks(out.columns, kThreads * 2));
    swiglu_kernel<1><<<static_cast<unsigned>(out.rows * pieces), kThreads, 0, device.stream()>>>(view(gate_up), view(out), pieces);
  }
  check_launch("swiglu");
}

void add_parts(const Device& device, int64_t count, const Matrix& parts, const Matrix& x) {
  require(parts.rows == count * x.rows && parts.columns == x.columns, "add_parts: parts and x differ in shape");
  if (x.rows == 0) return;
  add_parts_kernel<<<blocks(x.rows * x.columns), kThreads, 0, device.stream()>>>(view(parts), view(x), count, x.rows);
  check_launch("add_parts");
}

void to_bf16(const Device& device, const void* from, DType dtype, __nv_bfloat16* to, int64_t n) {
  if (n == 0) return;
  if (dtype == DType::F32) to_bf16_kernel<<<blocks(n), kThreads, 0, device.stream()>>>(static_cast<const float*>(from), to, n);
  else to_bf16_kernel<<<blocks(n), kThreads, 0, device.stream()>>>(static_cast<const __half*>(from), to, n);
  check_launch("to_bf16");
}

void to_float(const Device& device, const Matrix& x, float* to) {
  const int64_t n = x.rows * x.columns;
  if (n == 0) return;
  to_float_kernel<<<blocks(n), kThreads, 0, device.stream()>>>(view(x), to, n);
  check_launch("to_float");
}

}  // namespace longhaul::cuda
