// Top-k by radix selection: three passes of 11, 11 and 10 bits over keys that order as the scores
// do, each narrowing the threshold's digits, then an ordered compaction. One block per head; its keys
// stay in shared memory where they fit.
#include <algorithm>

#include "check.h"
#include "selection.h"

namespace longhaul::cuda {
namespace {

constexpr int kThreads = 1024, kWarps = kThreads / 32;
constexpr int kBins = 2048;
constexpr int64_t kShared = 200 << 10;  // of keys
constexpr unsigned kAll = 0xffffffffu;

/// Orders as the float does, with -0 equal to 0 and NaN below everything.
__device__ __forceinline__ uint32_t sort_key(float score) {
  if (isnan(score)) return 0;
  const uint32_t bits = __float_as_uint(score + 0.f);  // + 0: turns -0 into 0
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

/// Sum of `value` over the threads after this one in the block.
__device__ __forceinline__ int sum_after(int value, int* warp_sums) {
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  int sum = value;  // of this lane and those after it
#pragma unroll
  for (int step = 1; step < 32; step *= 2) {
    const int other = __shfl_down_sync(kAll, sum, step);
    if (lane + step < 32) sum += other;
  }
  if (lane == 0) warp_sums[warp] = sum;
  __syncthreads();
  int after = 0;
  for (int w = warp + 1; w < kWarps; ++w) after += warp_sums[w];
  __syncthreads();
  return sum - value + after;
}

template <bool InShared>
__global__ void __launch_bounds__(kThreads, 1) top_kernel(const float* scores, int64_t rows, int64_t first, int n, int count, int32_t* indices) {
  extern __shared__ uint32_t kept[];  // [n]
  __shared__ int bins[kBins], warp_sums[kWarps], above_of[kWarps], equal_of[kWarps];
  __shared__ uint32_t chosen_digit;
  __shared__ int chosen_need;
  const float* from = scores + blockIdx.x * rows + first;
  const auto key = [&](int i) { return InShared ? kept[i] : sort_key(from[i]); };
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;

  if (InShared)
    for (int i = threadIdx.x; i < n; i += kThreads) kept[i] = sort_key(from[i]);

  uint32_t prefix = 0, mask = 0;  // the threshold's digits known so far
  int need = count;               // how many keys with this prefix are still to be taken
#pragma unroll 1
  for (int shift = 21; ; shift = shift == 21 ? 10 : 0) {
    const uint32_t digits = shift == 0 ? 1023u : 2047u;
    bins[threadIdx.x] = bins[threadIdx.x + kThreads] = 0;
    __syncthreads();
    for (int i = threadIdx.x; i < n; i += kThreads) {
      const uint32_t k = key(i);
      if ((k & mask) == prefix) atomicAdd(&bins[k >> shift & digits], 1);
    }
    __syncthreads();
    // Each thread owns two neighbouring bins; the threshold lies where the sum from above reaches `need`.
    const int low = bins[2 * threadIdx.x], high = bins[2 * threadIdx.x + 1];
    const int after = sum_after(low + high, warp_sums);
    if (after < need && need <= after + high) chosen_digit = 2 * threadIdx.x + 1, chosen_need = need - after;
    if (after + high < need && need <= after + high + low) chosen_digit = 2 * threadIdx.x, chosen_need = need - after - high;
    __syncthreads();
    prefix |= chosen_digit << shift;
    mask |= digits << shift;
    need = chosen_need;
    if (shift == 0) break;
  }
  const uint32_t threshold = prefix;  // `need` of the keys equal to it are taken, from the lowest index

  // Each warp owns a run of indices, so that the order is kept.
  const int run = (n + kThreads - 1) / kThreads * 32;
  const int begin = min(n, warp * run), end = min(n, begin + run);
  int above = 0, equal = 0;
  for (int i = begin + lane; i < end; i += 32) {
    const uint32_t k = key(i);
    above += k > threshold;
    equal += k == threshold;
  }
#pragma unroll
  for (int step = 16; step > 0; step /= 2) {
    above += __shfl_xor_sync(kAll, above, step);
    equal += __shfl_xor_sync(kAll, equal, step);
  }
  if (lane == 0) above_of[warp] = above, equal_of[warp] = equal;
  __syncthreads();
  int above_before = 0, equal_before = 0;
  for (int w = 0; w < warp; ++w) above_before += above_of[w], equal_before += equal_of[w];
  int32_t* to = indices + static_cast<int64_t>(blockIdx.x) * count;
  const unsigned before = (1u << lane) - 1;
  for (int i = begin; i < end; i += 32) {
    const bool inside = i + lane < end;
    const uint32_t k = inside ? key(i + lane) : 0;
    const unsigned is_above = __ballot_sync(kAll, inside && k > threshold);
    const unsigned is_equal = __ballot_sync(kAll, inside && k == threshold);
    const int equal_rank = equal_before + __popc(is_equal & before);
    const bool taken = (is_above >> lane & 1) || ((is_equal >> lane & 1) && equal_rank < need);
    if (taken) to[above_before + __popc(is_above & before) + min(equal_rank, need)] = static_cast<int32_t>(first + i + lane);
    above_before += __popc(is_above);
    equal_before += __popc(is_equal);
  }
}

}  // namespace

void top_indices(const Device& device, const float* scores, int64_t heads, int64_t rows, int64_t first, int64_t count, int32_t* indices) {
  require(first >= 0 && count >= 0 && count <= rows - first, "top_indices: fewer candidates than `count`");
  if (count == 0 || heads == 0) return;
  const int64_t n = rows - first, shared = n * 4;
  const auto grid = static_cast<unsigned>(heads);
  if (shared <= kShared) {
    check(cudaFuncSetAttribute(top_kernel<true>, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(kShared)), "top_indices");
    top_kernel<true><<<grid, kThreads, static_cast<size_t>(shared), device.stream()>>>(scores, rows, first, static_cast<int>(n), static_cast<int>(count), indices);
  } else {
    top_kernel<false><<<grid, kThreads, 0, device.stream()>>>(scores, rows, first, static_cast<int>(n), static_cast<int>(count), indices);
  }
  check_launch("top_indices");
}

}  // namespace longhaul::cuda
