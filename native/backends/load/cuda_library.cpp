#include "cuda_library.h"

#include <dlfcn.h>

#include <filesystem>

#include "../../engine/errors.h"
#include "seam.h"

namespace longhaul {

std::string own_folder() {
  Dl_info self;
  if (::dladdr(reinterpret_cast<void*>(&own_folder), &self) == 0) return ".";
  std::error_code ignored;
  const std::filesystem::path file = std::filesystem::absolute(self.dli_fname, ignored);
  return file.parent_path().string();
}

std::string cuda_library_path(const CudaOptions& options) {
  return options.library.empty() ? own_folder() + "/libapb_cuda.so" : options.library;
}

const cuda::Abi& open_cuda_library(const CudaOptions& options) {
  const std::string path = cuda_library_path(options);
  const auto fail = [&](const std::string& what, const char* remedy) {
    return EngineError("unsupported", "the CUDA backend's library " + path + " " + what + "; " + remedy);
  };
  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored))
    throw fail("is not there", "build it with `make cuda`, or name it with the setting cudaLibrary (LONGHAUL_CUDA_LIBRARY)");
  void* library = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!library) {
    const char* error = ::dlerror();
    throw fail(std::string("cannot be opened (") + (error ? error : "no reason given") + ")", "build it again with `make cuda`");
  }
  const auto entry = reinterpret_cast<cuda::Entry>(::dlsym(library, cuda::kEntry));
  if (!entry) throw fail("has no " + std::string(cuda::kEntry), "name libapb_cuda.so itself");
  const cuda::Abi* abi = entry();
  if (std::string(abi->seam) != LONGHAUL_SEAM)
    throw fail(std::string("is of another build (") + abi->seam + ", this is " + LONGHAUL_SEAM + ")", "build it again with `make cuda`");
  return *abi;
}

}  // namespace longhaul
