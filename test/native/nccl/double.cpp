// NCCL's interface over host memory and threads of one process: data really moves, calls are answered "in
// progress", and a collective whose peer never comes ends only by an abort.
#include "double.h"

#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "comm/nccl_library.h"

#define EXPORT extern "C" __attribute__((visibility("default")))

using namespace longhaul;
using longhaul::testing::DoubleControl;
using longhaul::testing::DoubleStream;
using nccl::Result;

EXPORT DoubleControl nccl_double;
DoubleControl nccl_double;

namespace {

struct Hub {
  std::mutex mutex;
  std::condition_variable changed;
  std::map<std::pair<int, int>, std::deque<std::vector<char>>> mail;  // by sender and receiver
};

struct Member {
  std::shared_ptr<Hub> hub;
  int rank, ranks;
  std::atomic<bool> aborted{false};
  std::atomic<int> polls{0};
};

struct Piece {
  std::shared_ptr<Member> member;
  DoubleStream* stream;
  const void* from;
  void* to;
  size_t bytes;
  int peer;
};

std::mutex hubs_mutex;
std::map<std::string, std::shared_ptr<Hub>> hubs;
std::map<void*, std::shared_ptr<Member>> members;
thread_local int depth = 0;
thread_local std::vector<Piece> group;

std::shared_ptr<Member> find(void* comm) {
  const std::lock_guard lock(hubs_mutex);
  return members.at(comm);
}

/// All sends first: they never wait.
void run(const std::vector<Piece>& pieces) {
  for (const Piece& p : pieces) {
    if (!p.from) continue;
    const auto* bytes = static_cast<const char*>(p.from);
    const std::lock_guard lock(p.member->hub->mutex);
    p.member->hub->mail[{p.member->rank, p.peer}].emplace_back(bytes, bytes + p.bytes);
    p.member->hub->changed.notify_all();
  }
  for (const Piece& p : pieces) {
    if (!p.to) continue;
    Hub& hub = *p.member->hub;
    std::unique_lock lock(hub.mutex);
    auto& box = hub.mail[{p.peer, p.member->rank}];
    hub.changed.wait(lock, [&] { return p.member->aborted || !box.empty(); });
    if (p.member->aborted) return;
    std::memcpy(p.to, box.front().data(), p.bytes);
    box.pop_front();
  }
}

Result launch() {
  if (depth > 0 || group.empty()) return nccl::kSuccess;
  std::vector<Piece> pieces = std::exchange(group, {});
  const auto member = pieces[0].member;
  member->polls = nccl_double.slow_polls.load();
  pieces[0].stream->enqueue([pieces] { run(pieces); });
  return member->polls > 0 ? nccl::kInProgress : nccl::kSuccess;
}

Result add(void* comm, void* stream, const void* from, void* to, size_t bytes, int peer) {
  const auto member = find(comm);
  if (member->polls > 0) return 5;  // the call before is not through: invalid usage
  group.push_back({member, static_cast<DoubleStream*>(stream), from, to, bytes, peer});
  return nccl::kSuccess;
}

void forget(void* comm) {
  const std::lock_guard lock(hubs_mutex);
  members.erase(comm);
  --nccl_double.live;
}

}  // namespace

EXPORT Result ncclGetVersion(int* version) { return *version = 22907, nccl::kSuccess; }
EXPORT const char* ncclGetErrorString(Result result) { return result == nccl::kRemoteError ? "remote error" : "an error"; }
EXPORT const char* ncclGetLastError(void*) { return "said by the double"; }

EXPORT Result ncclGetUniqueId(nccl::UniqueId* id) {
  static std::atomic<int> next{0};
  const char* nvls = std::getenv("NCCL_NVLS_ENABLE");
  nccl_double.multicast = !nvls || std::strcmp(nvls, "0") != 0;
  std::memset(id, 0, sizeof *id);
  const std::string name = "cohort " + std::to_string(next++);
  std::memcpy(id->bytes, name.data(), name.size());
  return nccl::kSuccess;
}

EXPORT Result ncclCommInitRankConfig(void** comm, int ranks, nccl::UniqueId id, int rank, nccl::Config* config) {
  if (config->magic != 0xcafebeef || config->blocking != 0) return 4;
  auto member = std::make_shared<Member>();
  const std::lock_guard lock(hubs_mutex);
  auto& hub = hubs[id.bytes];
  if (!hub) hub = std::make_shared<Hub>();
  member->hub = hub;
  member->rank = rank;
  member->ranks = ranks;
  member->polls = nccl_double.slow_polls.load();
  *comm = member.get();
  members[*comm] = member;
  ++nccl_double.live;
  return member->polls > 0 ? nccl::kInProgress : nccl::kSuccess;
}

EXPORT Result ncclCommGetAsyncError(void* comm, Result* state) {
  const auto member = find(comm);
  *state = nccl_double.async_error;
  if (*state == 0 && member->polls > 0) *state = --member->polls > 0 ? nccl::kInProgress : nccl::kSuccess;
  return nccl::kSuccess;
}

EXPORT Result ncclCommFinalize(void*) { return nccl::kSuccess; }
EXPORT Result ncclCommDestroy(void* comm) { return forget(comm), nccl::kSuccess; }

EXPORT Result ncclCommAbort(void* comm) {
  const auto member = find(comm);
  {
    const std::lock_guard lock(member->hub->mutex);
    member->aborted = true;
  }
  member->hub->changed.notify_all();
  ++nccl_double.aborted;
  return forget(comm), nccl::kSuccess;
}

EXPORT Result ncclGroupStart() { return ++depth, nccl::kSuccess; }
EXPORT Result ncclGroupEnd() { return --depth, launch(); }

EXPORT Result ncclSend(const void* data, size_t count, int, int peer, void* comm, void* stream) {
  const Result result = add(comm, stream, data, nullptr, count, peer);
  return result == nccl::kSuccess ? launch() : result;
}
EXPORT Result ncclRecv(void* data, size_t count, int, int peer, void* comm, void* stream) {
  const Result result = add(comm, stream, nullptr, data, count, peer);
  return result == nccl::kSuccess ? launch() : result;
}

EXPORT Result ncclAllGather(const void* from, void* to, size_t count, int, void* comm, void* stream) {
  const auto member = find(comm);
  ++depth;
  Result result = nccl::kSuccess;
  for (int r = 0; r < member->ranks && result == nccl::kSuccess; ++r) {
    result = add(comm, stream, from, nullptr, count, r);
    if (result == nccl::kSuccess) result = add(comm, stream, nullptr, static_cast<char*>(to) + count * static_cast<size_t>(r), count, r);
  }
  --depth;
  return result == nccl::kSuccess ? launch() : result;
}

EXPORT Result ncclBroadcast(const void* from, void* to, size_t count, int, int root, void* comm, void* stream) {
  const auto member = find(comm);
  ++depth;
  Result result = nccl::kSuccess;
  for (int r = 0; r < member->ranks && member->rank == root && result == nccl::kSuccess; ++r)
    if (r != root) result = add(comm, stream, from, nullptr, count, r);
  if (member->rank != root) result = add(comm, stream, nullptr, to, count, root);
  --depth;
  return result == nccl::kSuccess ? launch() : result;
}
