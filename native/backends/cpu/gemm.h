// y = x W^T + bias over packed weights.
#pragma once

#include "packed_linear.h"

namespace longhaul::cpu {

/// out [T, out] (+)= x [T, in] * W^T + bias, split over the threads. No overlap of x and out.
void gemm(Context& context, const Matrix& x, const PackedLinear& weight, const Matrix& out, bool accumulate);

/// The part of it that one worker does: rows [first, first + rows), rows <= kernels.block_rows, and panels
/// [panel, panel + panels).
void gemm_part(const Kernels& kernels, Scratch& scratch, const Matrix& x, int64_t first, int64_t rows,
               const PackedLinear& weight, int64_t panel, int64_t panels, const Matrix& out, bool accumulate);

/// As Backend::gemm_slice, in plain loops: ranks that share out an MLP are GPUs, and this is what they are checked against.
void gemm_slice(const Matrix& x, const PackedLinear& weight, const Backend::Slice& slice, const Matrix& out);

}  // namespace longhaul::cpu
