// Included once by each kernels_*.cpp, which defines LONGHAUL_WIDTH (floats in a vector),
// LONGHAUL_ROWS and LONGHAUL_LANE_ROWS (rows of the register tiles of linear layers and of attention),
// LONGHAUL_BLOCK_ROWS and LONGHAUL_BLOCK_DEPTH (Kernels::block_rows, block_depth) and
// LONGHAUL_KERNELS_NAME first, and LONGHAUL_BF16 for bfloat16 products.
#pragma once

#include "attention_kernel.h"
#if defined(LONGHAUL_BF16)
#include "bf16_kernel.h"
#endif
#include "few_rows_kernel.h"
#include "kernels.h"
#include "matmul_kernel.h"
#include "row_kernels.h"

namespace {

#if defined(LONGHAUL_BF16)
constexpr int64_t TILE_ROWS = BF16_ROWS;
#else
constexpr int64_t TILE_ROWS = MR;
#endif
static_assert(LONGHAUL_BLOCK_ROWS % TILE_ROWS == 0, "how rows are split over threads must not change their tiles");

constexpr longhaul::cpu::Kernels kernel_table = {
    LONGHAUL_KERNELS_NAME, TILE_ROWS, NR, LONGHAUL_BLOCK_ROWS, LONGHAUL_BLOCK_DEPTH,
    multiply<float>, multiply<uint32_t>, widen, AR, pack_values, attend, softmax_step, dots, weigh,
    rmsnorm, rotate, silu, swiglu, scale_row, exp_row,
#if defined(LONGHAUL_BF16)
    to_bf16, multiply_bf16,
#else
    nullptr, nullptr,
#endif
};

}  // namespace
