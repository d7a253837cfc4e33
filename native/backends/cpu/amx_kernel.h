// The product of pairs of bfloat16 with float32 sums in AMX's tiles: 16 rows of 64 bytes each.
#pragma once

#include "matmul_kernel.h"

namespace {

static_assert(NR == 32, "two tiles of 16 columns");
constexpr int64_t BF16_ROWS = 32;

/// What ldtilecfg reads.
struct TileConfig {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};
};

/// Tiles 0 to 3 are sums [upper | lower, 32], 4 and 5 rows of a, 6 and 7 columns of b.
LONGHAUL_INLINE void configure_tiles(int64_t upper, int64_t lower) {
  TileConfig config;
  for (int tile = 0; tile < 8; ++tile) {
    const bool is_lower = tile == 2 || tile == 3 || tile == 5;
    config.rows[tile] = static_cast<uint8_t>(tile >= 6 ? 16 : is_lower ? lower : upper);
    config.row_bytes[tile] = config.rows[tile] > 0 ? 64 : 0;
  }
  __asm__ volatile("" : : "r"(&config) : "memory");  // the intrinsic says that it reads eight bytes of it
  _tile_loadconfig(&config);
}

/// c [rows of the configuration, 32] (+)= a * b; BOTH: the lower tiles have rows.
template <bool BOTH>
LONGHAUL_INLINE void tile_product(const uint32_t* a, int64_t lda, int64_t pairs, const uint32_t* b, float* c, int64_t ldc,
                                  bool accumulate) {
  const int64_t row_a = lda * 4, row_b = NR * 4, row_c = ldc * 4;  // bytes
  float* const lower = c + 16 * ldc;
  if (accumulate) {
    _tile_loadd(0, c, row_c);
    _tile_loadd(1, c + 16, row_c);
    if (BOTH) {
      _tile_loadd(2, lower, row_c);
      _tile_loadd(3, lower + 16, row_c);
    }
  } else {
    _tile_zero(0);
    _tile_zero(1);
    if (BOTH) {
      _tile_zero(2);
      _tile_zero(3);
    }
  }
  for (int64_t i = 0; i < pairs; i += 16, b += 16 * NR) {
    _tile_loadd(4, a + i, row_a);
    _tile_loadd(6, b, row_b);
    _tile_dpbf16ps(0, 4, 6);
    _tile_loadd(7, b + 16, row_b);
    _tile_dpbf16ps(1, 4, 7);
    if (BOTH) {
      _tile_loadd(5, a + 16 * lda + i, row_a);
      _tile_dpbf16ps(2, 5, 6);
      _tile_dpbf16ps(3, 5, 7);
    }
  }
  _tile_stored(0, c, row_c);
  _tile_stored(1, c + 16, row_c);
  if (BOTH) {
    _tile_stored(2, lower, row_c);
    _tile_stored(3, lower + 16, row_c);
  }
}

/// As Kernels::multiply_bf16.
void multiply_bf16(const uint32_t* a, int64_t lda, int64_t rows, int64_t pairs, const uint32_t* b, int64_t n, float* c,
                   int64_t ldc, const float* bias, bool accumulate) {
  float edge[32 * NR];  // [32, NR]: sums that c has no room for, or that a bias comes to
  const bool direct = n == NR && bias == nullptr;
  for (int64_t i = 0; i < rows; i += 32, c += 32 * ldc) {
    const int64_t height = rows - i < 32 ? rows - i : 32;
    if (i == 0 || height < 32) configure_tiles(height < 16 ? height : 16, height < 16 ? 0 : height - 16);
    float* to = direct ? c : edge;
    const int64_t ldt = direct ? ldc : NR;
    if (height > 16)
      tile_product<true>(a + i * lda, lda, pairs, b, to, ldt, direct && accumulate);
    else
      tile_product<false>(a + i * lda, lda, pairs, b, to, ldt, direct && accumulate);
    if (direct) continue;
    for (int64_t r = 0; r < height; ++r)
      for (int64_t m = 0; m < n; ++m)
        c[r * ldc + m] = edge[r * NR + m] + (bias ? bias[m] : 0.f) + (accumulate ? c[r * ldc + m] : 0.f);
  }
  _tile_release();
}

}  // namespace
