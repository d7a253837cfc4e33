// Kernels for AVX2 and FMA: 6x16 tile, 12 of 16 registers. A block takes 200 KiB of a second-level cache of
// 512 KiB, a panel of W 16 KiB of the first-level one.
#define LONGHAUL_WIDTH 8
#define LONGHAUL_ROWS 6
#define LONGHAUL_LANE_ROWS 4
#define LONGHAUL_BLOCK_ROWS 192
#define LONGHAUL_BLOCK_DEPTH 256
#define LONGHAUL_KERNELS_NAME "avx2"
#include "kernel_table.h"

const longhaul::cpu::Kernels& longhaul::cpu::avx2_kernels() { return kernel_table; }
