// Kernels for AVX-512: 12x32 tile, 24 of 32 registers.
#define LONGHAUL_WIDTH 16
#define LONGHAUL_ROWS 12
#define LONGHAUL_LANE_ROWS 8
#define LONGHAUL_KERNELS_NAME "avx512"
#include "kernel_table.h"

const longhaul::cpu::Kernels& longhaul::cpu::avx512_kernels() { return kernel_table; }
