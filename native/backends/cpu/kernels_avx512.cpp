// Kernels for AVX-512: 14x32 tile, 28 of 32 registers. A block takes 590 KiB of a second-level cache of 1 or
// 2 MiB, a panel of W 96 KiB: sums go to memory once where rows of W have up to 768 elements.
#define LONGHAUL_WIDTH 16
#define LONGHAUL_ROWS 14
#define LONGHAUL_LANE_ROWS 8
#define LONGHAUL_BLOCK_ROWS 196
#define LONGHAUL_BLOCK_DEPTH 768
#define LONGHAUL_KERNELS_NAME "avx512"
#include "kernel_table.h"

const longhaul::cpu::Kernels& longhaul::cpu::avx512_kernels() { return kernel_table; }
