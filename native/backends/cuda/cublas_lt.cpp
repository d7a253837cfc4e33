#include "cublas_lt.h"

#include <dlfcn.h>

#include <map>
#include <mutex>

#include "../load/library_search.h"
#include "check.h"

namespace longhaul::cuda {
namespace {

template <class Function>
bool resolve(void* library, const char* name, Function& function, std::string& problem) {
  function = reinterpret_cast<Function>(::dlsym(library, name));
  if (!function) problem = std::string("has no ") + name;
  return function != nullptr;
}

/// Fills the table; what is wrong with the library otherwise.
std::string load(void* library, CublasLt& lt) {
  std::string problem;
  const bool complete = resolve(library, "cublasLtCreate", lt.create, problem) &&
                        resolve(library, "cublasLtDestroy", lt.destroy, problem) &&
                        resolve(library, "cublasLtGetVersion", lt.version, problem) &&
                        resolve(library, "cublasLtMatmulDescCreate", lt.desc_create, problem) &&
                        resolve(library, "cublasLtMatmulDescDestroy", lt.desc_destroy, problem) &&
                        resolve(library, "cublasLtMatmulDescSetAttribute", lt.desc_set, problem) &&
                        resolve(library, "cublasLtMatrixLayoutCreate", lt.layout_create, problem) &&
                        resolve(library, "cublasLtMatrixLayoutDestroy", lt.layout_destroy, problem) &&
                        resolve(library, "cublasLtMatmulPreferenceCreate", lt.preference_create, problem) &&
                        resolve(library, "cublasLtMatmulPreferenceDestroy", lt.preference_destroy, problem) &&
                        resolve(library, "cublasLtMatmulPreferenceSetAttribute", lt.preference_set, problem) &&
                        resolve(library, "cublasLtMatmulAlgoGetHeuristic", lt.heuristic, problem) &&
                        resolve(library, "cublasLtMatmul", lt.matmul, problem);
  return complete ? "" : problem;
}

}  // namespace

std::vector<std::string> cublas_lt_candidates() {
  std::vector<std::string> candidates = {"libcublasLt.so.13", "libcublasLt.so.12"};
  add_files("/usr/local/cuda*/lib64/libcublasLt.so.1[23]", candidates);
  add_python_files({"cu13", "cublas", "cu12"}, "libcublasLt.so.1[23]", candidates);
  return candidates;
}

const CublasLt& CublasLt::open(const std::string& path) {
  static std::mutex mutex;
  static std::map<std::string, CublasLt> opened;  // by the path that was asked for; never closed
  const std::lock_guard lock(mutex);
  if (const auto at = opened.find(path); at != opened.end()) return at->second;

  std::string looked;
  for (const std::string& candidate : path.empty() ? cublas_lt_candidates() : std::vector{path}) {
    void* library = ::dlopen(candidate.c_str(), RTLD_NOW | RTLD_LOCAL);
    CublasLt lt;
    const char* error = library ? nullptr : ::dlerror();
    const std::string problem = library ? load(library, lt) : error ? error : "cannot be opened";
    if (problem.empty()) {
      lt.source = candidate + " " + std::to_string(lt.version());
      return opened.emplace(path, lt).first->second;
    }
    looked += (looked.empty() ? "" : "; ") + candidate + ": " + problem;
    if (library) ::dlclose(library);
  }
  throw EngineError("unsupported", "cuBLASLt (libcublasLt.so.13 or .12) cannot be opened (" + looked +
                                       "); install it (pip install nvidia-cublas, or the CUDA toolkit) or name it with "
                                       "the setting cublasLt (LONGHAUL_CUBLAS_LT)");
}

void check_lt(lt::Status status, const char* what) {
  if (status == 0) return;
  const char* name = status == 1    ? "not initialised"
                     : status == 3  ? "allocation failed"
                     : status == 7  ? "invalid value"
                     : status == 8  ? "architecture mismatch"
                     : status == 13 ? "execution failed"
                     : status == 15 ? "not supported"
                                    : "internal error";
  throw EngineError("cuda_error", std::string("cuBLASLt: ") + what + ": " + name + " (" + std::to_string(status) +
                                      "); restart this rank, and run `longhaul doctor` if it fails again");
}

}  // namespace longhaul::cuda
