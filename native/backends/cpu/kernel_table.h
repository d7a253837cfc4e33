// Included once by each kernels_*.cpp, which defines LONGHAUL_WIDTH (floats in a vector),
// LONGHAUL_ROWS (rows of the register tile) and LONGHAUL_KERNELS_NAME first.
#pragma once

#include "kernels.h"
#include "matmul_kernel.h"
#include "row_kernels.h"
#include "softmax_kernel.h"

namespace {

constexpr longhaul::cpu::Kernels kernel_table = {
    LONGHAUL_KERNELS_NAME, MR, NR, multiply, softmax_step, dots, weigh,
    rmsnorm, rotate, silu, swiglu, scale_row, exp_row,
};

}  // namespace
