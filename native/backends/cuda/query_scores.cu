#include "query_scores.h"

#include "bf16.h"
#include "check.h"

namespace longhaul::cuda {
namespace {

constexpr int kThreads = 256;

/// A thread per element of mean [NK*D]; questions are short.
__global__ void mean_query_kernel(const __nv_bfloat16* q, int64_t stride, int64_t rows, int group, int dimension, int width, float* mean) {
  const int c = blockIdx.x * kThreads + threadIdx.x;
  if (c >= width) return;
  const int head = c / dimension, d = c % dimension;
  double sum = 0;
  for (int64_t t = 0; t < rows; ++t)
    for (int g = 0; g < group; ++g) sum += __bfloat162float(q[t * stride + (head * group + g) * dimension + d]);
  mean[c] = static_cast<float>(sum / (static_cast<double>(rows) * group));
}

/// A warp per key and KV head.
__global__ void __launch_bounds__(kThreads) query_scores_kernel(const float* mean, const __nv_bfloat16* keys, int64_t key_stride,
                                                                int64_t rows, int heads, int dimension, float* scores, int64_t stride) {
  const int lane = threadIdx.x % 32;
  const int64_t item = (static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x) / 32;
  if (item >= rows * heads) return;
  const int64_t row = item / heads;
  const auto head = static_cast<int>(item % heads);
  float sum = 0;
  for (int d = lane; d < dimension; d += 32)
    sum += mean[head * dimension + d] * __bfloat162float(keys[row * key_stride + head * dimension + d]);
  sum = warp_sum(sum);
  if (lane == 0) scores[head * stride + row] = sum;
}

}  // namespace

void mean_query(const Device& device, const Matrix& q, const Heads& heads, float* mean) {
  require(q.rows > 0 && q.columns == heads.query * heads.dimension, "mean_query: q differs in shape from the heads");
  const auto width = static_cast<int>(heads.key_value * heads.dimension);
  mean_query_kernel<<<static_cast<unsigned>((width + kThreads - 1) / kThreads), kThreads, 0, device.stream()>>>(
      static_cast<const __nv_bfloat16*>(q.data), q.stride, q.rows, static_cast<int>(heads.query / heads.key_value),
      static_cast<int>(heads.dimension), width, mean);
  check_launch("mean_query");
}

void query_scores(const Device& device, const float* mean, const Matrix& keys, const Heads& heads, float* scores, int64_t stride) {
  require(keys.columns == heads.key_value * heads.dimension && keys.rows <= stride, "query_scores: keys differ in shape from the heads");
  const int64_t items = keys.rows * heads.key_value;
  if (items == 0) return;
  query_scores_kernel<<<static_cast<unsigned>((items * 32 + kThreads - 1) / kThreads), kThreads, 0, device.stream()>>>(
      mean, static_cast<const __nv_bfloat16*>(keys.data), keys.stride, keys.rows, static_cast<int>(heads.key_value),
      static_cast<int>(heads.dimension), scores, stride);
  check_launch("query_scores");
}

}  // namespace longhaul::cuda
