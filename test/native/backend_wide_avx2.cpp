// The 16-wide kernels compiled for AVX2 (two registers per vector): slow, but it lets a processor
// without AVX-512 test the code that the AVX-512 table is made from.
#define LONGHAUL_WIDTH 16
#define LONGHAUL_ROWS 14
#define LONGHAUL_LANE_ROWS 8
#define LONGHAUL_BLOCK_ROWS 196
#define LONGHAUL_BLOCK_DEPTH 768
#define LONGHAUL_KERNELS_NAME "16-wide on avx2"
#include "backends/cpu/kernel_table.h"

namespace longhaul::cpu {
const Kernels& wide_avx2_kernels();
const Kernels& wide_avx2_kernels() { return kernel_table; }
}  // namespace longhaul::cpu
