// The attention kernels behind C functions, so that a Python program can time them beside PyTorch's.
#include <cstdio>
#include <exception>
#include <vector>

#include "backends/cuda/attention.h"

using namespace longhaul::cuda;

#define EXPORTED extern "C" __attribute__((visibility("default")))

/// As attention_workspace_bytes.
EXPORTED int64_t longhaul_attention_workspace(int64_t queries, int64_t query_heads, int64_t kv_heads, int64_t dimension) {
  return static_cast<int64_t>(attention_workspace_bytes({queries, query_heads, kv_heads, dimension}));
}

/// As attention, over `count` segments with dense rows. Returns 0, or 1 after printing what failed.
EXPORTED int longhaul_attention(void* stream, const void* q, int64_t queries, int64_t query_heads, int64_t kv_heads,
                                int64_t dimension, int64_t count, const void* const* keys, const void* const* values,
                                const int64_t* rows, const int32_t* causal, void* out, float* lse, void* workspace) {
  try {
    std::vector<AttentionSegment> segments;
    for (int64_t i = 0; i < count; ++i)
      segments.push_back({static_cast<const __nv_bfloat16*>(keys[i]), static_cast<const __nv_bfloat16*>(values[i]), rows[i],
                          kv_heads * dimension, kv_heads * dimension, causal[i] != 0});
    attention(static_cast<cudaStream_t>(stream), static_cast<const __nv_bfloat16*>(q), query_heads * dimension,
              {queries, query_heads, kv_heads, dimension}, segments, static_cast<__nv_bfloat16*>(out),
              query_heads * dimension, lse, workspace);
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "longhaul_attention: %s\n", error.what());
    return 1;
  }
}
