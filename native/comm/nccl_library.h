// NCCL's C interface, as far as it is used here, opened at run time: neither its headers nor the library
// are needed to build, and a machine without it runs everything else.
#pragma once

#include <climits>
#include <cstddef>
#include <string>
#include <vector>

namespace longhaul::nccl {

using Comm = void*;
using Result = int;
constexpr Result kSuccess = 0, kRemoteError = 6, kInProgress = 7;
constexpr int kBytes = 1;  // ncclUint8

struct UniqueId {
  char bytes[128];
};

/// ncclConfig_t of 2.18.1: later libraries read this much of it, by `version`, and default the rest.
struct Config {
  static constexpr int kDefault = INT_MIN;
  size_t size = sizeof(Config);
  unsigned magic = 0xcafebeef;
  unsigned version = 21801;
  int blocking = 0;
  int cga_cluster_size = kDefault, min_ctas = kDefault, max_ctas = kDefault;
  const char* net_name = nullptr;
  int split_share = kDefault;
};

struct Library {
  Result (*get_version)(int*);
  const char* (*get_error_string)(Result);
  const char* (*get_last_error)(Comm);
  Result (*get_unique_id)(UniqueId*);
  Result (*comm_init_rank_config)(Comm*, int ranks, UniqueId, int rank, Config*);
  Result (*comm_get_async_error)(Comm, Result*);
  Result (*comm_finalize)(Comm);
  Result (*comm_destroy)(Comm);
  Result (*comm_abort)(Comm);
  Result (*group_start)();
  Result (*group_end)();
  Result (*all_gather)(const void*, void*, size_t, int type, Comm, void* stream);
  Result (*broadcast)(const void*, void*, size_t, int type, int root, Comm, void* stream);
  Result (*send)(const void*, size_t, int type, int peer, Comm, void* stream);
  Result (*receive)(void*, size_t, int type, int peer, Comm, void* stream);
  int version = 0;     // 23007: 2.30.7
  std::string source;  // "libnccl.so.2 2.30.7": where it came from
};

/// "2.30.7"
std::string version_text(int version);

/// Where `open` looks unless told.
std::vector<std::string> candidates();

/// The library at `path`, or the first candidate that works; opened once and never closed. Throws
/// EngineError("unsupported") saying what was tried, what is wrong with each, and the remedy.
const Library& open(const std::string& path);

}  // namespace longhaul::nccl
