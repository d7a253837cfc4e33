#include "nccl_library.h"

#include <dlfcn.h>

#include <cstdlib>
#include <map>
#include <mutex>

#include "../backends/load/library_search.h"
#include "../engine/errors.h"

namespace longhaul::nccl {
namespace {

constexpr int kOldest = 21801;  // has non-blocking communicators, their finalising, and ncclConfig_t as declared

/// Fills the table; what is wrong with the library otherwise.
std::string load(void* library, Library& to) {
  std::string problem;
  const auto find = [&](const char* name, auto& function) {
    function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(::dlsym(library, name));
    if (!function && problem.empty()) problem = std::string("has no ") + name;
  };
  find("ncclGetVersion", to.get_version);
  find("ncclGetErrorString", to.get_error_string);
  find("ncclGetLastError", to.get_last_error);
  find("ncclGetUniqueId", to.get_unique_id);
  find("ncclCommInitRankConfig", to.comm_init_rank_config);
  find("ncclCommGetAsyncError", to.comm_get_async_error);
  find("ncclCommFinalize", to.comm_finalize);
  find("ncclCommDestroy", to.comm_destroy);
  find("ncclCommAbort", to.comm_abort);
  find("ncclGroupStart", to.group_start);
  find("ncclGroupEnd", to.group_end);
  find("ncclAllGather", to.all_gather);
  find("ncclBroadcast", to.broadcast);
  find("ncclSend", to.send);
  find("ncclRecv", to.receive);
  if (!problem.empty()) return problem;
  if (to.get_version(&to.version) != kSuccess) return "does not tell its version";
  if (to.version < kOldest) return "is NCCL " + version_text(to.version) + ", older than " + version_text(kOldest);
  return "";
}

}  // namespace

std::string version_text(int version) {
  const int major = version / 10000, minor = version / 100 % 100, patch = version % 100;
  return std::to_string(major) + "." + std::to_string(minor) + "." + std::to_string(patch);
}

std::vector<std::string> candidates() {
  std::vector<std::string> found = {"libnccl.so.2"};
  add_files("/usr/local/cuda*/lib64/libnccl.so.2", found);
  add_python_files({"nccl"}, "libnccl.so.2", found);
  return found;
}

const Library& open(const std::string& path) {
  static std::mutex mutex;
  static std::map<std::string, Library> opened;  // by the path that was asked for
  const std::lock_guard lock(mutex);
  if (const auto at = opened.find(path); at != opened.end()) return at->second;

  // NVLink multicast (NVLS) can leave GPUs that others share unusable when a process dies in it, and all-gathers
  // gain nothing from it. NCCL reads this once, before its first communicator.
  ::setenv("NCCL_NVLS_ENABLE", "0", 1);
  std::string looked;
  for (const std::string& candidate : path.empty() ? candidates() : std::vector{path}) {
    void* handle = ::dlopen(candidate.c_str(), RTLD_NOW | RTLD_LOCAL);
    Library library{};
    const char* error = handle ? nullptr : ::dlerror();
    const std::string problem = handle ? load(handle, library) : error ? error : "cannot be opened";
    if (problem.empty()) {
      library.source = candidate + " " + version_text(library.version);
      return opened.emplace(path, library).first->second;
    }
    looked += (looked.empty() ? "" : "; ") + candidate + ": " + problem;
    if (handle) ::dlclose(handle);
  }
  throw EngineError("unsupported", "NCCL (libnccl.so.2, 2.18.1 or later) cannot be opened (" + looked +
                                       "); install it (pip install nvidia-nccl-cu13), name it with the setting nccl "
                                       "(LONGHAUL_NCCL), or give --comm tcp");
}

}  // namespace longhaul::nccl
