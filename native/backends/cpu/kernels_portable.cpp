// Kernels for any processor: vectors of 4 (SSE2 on x86-64, NEON on ARM); 6x8 tile, 12 of 16 registers.
#define LONGHAUL_WIDTH 4
#define LONGHAUL_ROWS 6
#define LONGHAUL_LANE_ROWS 4
#define LONGHAUL_BLOCK_ROWS 192
#define LONGHAUL_BLOCK_DEPTH 256
#define LONGHAUL_KERNELS_NAME "portable"
#include "kernel_table.h"

const longhaul::cpu::Kernels& longhaul::cpu::portable_kernels() { return kernel_table; }
