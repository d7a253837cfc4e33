// The kernels with bfloat16 products in plain loops, so that a processor without AVX512_BF16 tests
// how they are packed and called.
#define LONGHAUL_WIDTH 8
#define LONGHAUL_ROWS 6
#define LONGHAUL_LANE_ROWS 4
#define LONGHAUL_BF16
#define LONGHAUL_BLOCK_ROWS 96
#define LONGHAUL_BLOCK_DEPTH 256
#define LONGHAUL_KERNELS_NAME "bf16 products in loops"
#include "backends/cpu/kernel_table.h"

namespace longhaul::cpu {
const Kernels& bf16_loop_kernels();
const Kernels& bf16_loop_kernels() { return kernel_table; }
}  // namespace longhaul::cpu
