#include "cublas_lt.h"

#include <dlfcn.h>
#include <glob.h>

#include <cstdlib>
#include <filesystem>
#include <map>
#include <mutex>
#include <sstream>

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

void add_files(const std::string& pattern, std::vector<std::string>& to) {
  glob_t found{};
  if (::glob(pattern.c_str(), GLOB_TILDE, nullptr, &found) == 0)
    for (size_t i = 0; i < found.gl_pathc; ++i) to.emplace_back(found.gl_pathv[i]);
  ::globfree(&found);
}

/// The folders that hold bin/python3 of each PATH entry: an activated environment's packages.
std::vector<std::string> python_prefixes() {
  std::vector<std::string> prefixes = {"/usr", "/usr/local", "~/.local", ".venv"};
  const char* path = std::getenv("PATH");
  std::istringstream entries(path ? path : "");
  for (std::string entry; std::getline(entries, entry, ':');) {
    std::error_code ignored;
    if (std::filesystem::exists(entry + "/python3", ignored))
      prefixes.push_back(std::filesystem::path(entry).parent_path().string());
  }
  return prefixes;
}

}  // namespace

std::vector<std::string> cublas_lt_candidates() {
  std::vector<std::string> candidates = {"libcublasLt.so.13", "libcublasLt.so.12"};
  add_files("/usr/local/cuda*/lib64/libcublasLt.so.1[23]", candidates);
  for (const std::string& prefix : python_prefixes())
    for (const char* packages : {"site-packages", "dist-packages"})
      for (const char* package : {"cu13", "cublas", "cu12"})
        add_files(prefix + "/lib/python3*/" + packages + "/nvidia/" + package + "/lib/libcublasLt.so.1[23]", candidates);
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
