// Kernels for AVX2 and FMA: 6x16 tile, 12 of 16 registers.
#define LONGHAUL_WIDTH 8
#define LONGHAUL_ROWS 6
#define LONGHAUL_LANE_ROWS 4
#define LONGHAUL_KERNELS_NAME "avx2"
#include "kernel_table.h"

const longhaul::cpu::Kernels& longhaul::cpu::avx2_kernels() { return kernel_table; }
