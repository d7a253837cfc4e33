// Kernels for AVX-512 with AMX: linear layers multiply bfloat16 in AMX's tiles and add up float32. A block of
// pairs takes 400 KiB of a second-level cache of 2 MiB.
#define LONGHAUL_WIDTH 16
#define LONGHAUL_ROWS 12
#define LONGHAUL_LANE_ROWS 8
#define LONGHAUL_BF16
#define LONGHAUL_BLOCK_ROWS 384
#define LONGHAUL_BLOCK_DEPTH 1024
#define LONGHAUL_KERNELS_NAME "avx512, bf16 products in amx tiles"
#include "kernel_table.h"

const longhaul::cpu::Kernels& longhaul::cpu::amx_kernels() { return kernel_table; }
