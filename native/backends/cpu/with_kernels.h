// The CPU backend over any table of kernels: for make_cpu_backend, and for tests of a table.
#pragma once

#include <memory>

#include "../backend.h"
#include "kernels.h"

namespace longhaul::cpu {

std::shared_ptr<Backend> backend_with_kernels(const Kernels& kernels, int threads, size_t document_memory = 0);

}  // namespace longhaul::cpu
