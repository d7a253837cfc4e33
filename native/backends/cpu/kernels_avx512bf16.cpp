// Kernels for AVX-512 with AVX512_BF16: linear layers multiply bfloat16 and add up float32.
#define LONGHAUL_WIDTH 16
#define LONGHAUL_ROWS 12
#define LONGHAUL_LANE_ROWS 8
#define LONGHAUL_BF16
#define LONGHAUL_BLOCK_ROWS 192
#define LONGHAUL_BLOCK_DEPTH 1024
#define LONGHAUL_KERNELS_NAME "avx512, bf16 products"
#include "kernel_table.h"

const longhaul::cpu::Kernels& longhaul::cpu::avx512_bf16_kernels() { return kernel_table; }
