// A communicator between threads of one process: barriers and memcpy, with deadlines and abort.
#pragma once

#include <condition_variable>
#include <cstring>
#include <functional>
#include <memory>
#include <mutex>
#include <numeric>
#include <vector>

#include "comm/communicator.h"

namespace longhaul::testing {

/// What the ranks share. A collective is: publish, wait for all, copy from peers, wait for all.
struct ThreadHub {
  explicit ThreadHub(int ranks) : sends(static_cast<size_t>(ranks)), sizes(static_cast<size_t>(ranks)) {}
  std::mutex mutex;
  std::condition_variable changed;
  std::vector<const std::byte*> sends;
  std::vector<std::span<const size_t>> sizes;
  int arrived = 0;
  int64_t round = 0;
  int lost = -1;  // the rank that aborted, left or ran out of time; the hub is broken then
};

class ThreadCommunicator : public Communicator {
 public:
  ThreadCommunicator(std::shared_ptr<ThreadHub> hub, int rank) : hub_(std::move(hub)), rank_(rank) {}
  ~ThreadCommunicator() override { leave(); }

  int rank() const override { return rank_; }
  int size() const override { return static_cast<int>(hub_->sends.size()); }
  std::string kind() const override { return "threads"; }
  bool device_memory() const override { return false; }

  void all_gather(const void* send, void* receive, std::span<const size_t> bytes, Deadline deadline) override {
    exchange(send, bytes, deadline, [&] {
      auto* to = static_cast<std::byte*>(receive);
      for (size_t r = 0; r < bytes.size(); to += bytes[r], ++r)
        if (bytes[r] > 0 && to != hub_->sends[r]) std::memcpy(to, hub_->sends[r], bytes[r]);
    });
  }
  void broadcast(void* data, size_t bytes, int root, Deadline deadline) override {
    exchange(data, {}, deadline, [&] {
      if (rank_ != root && bytes > 0) std::memcpy(data, hub_->sends[static_cast<size_t>(root)], bytes);
    });
  }
  void all_to_all(const void* send, std::span<const size_t> send_bytes, void* receive,
                  std::span<const size_t> receive_bytes, Deadline deadline) override {
    exchange(send, send_bytes, deadline, [&] {
      auto* to = static_cast<std::byte*>(receive);
      for (size_t r = 0; r < receive_bytes.size(); to += receive_bytes[r], ++r) {
        const auto& sizes = hub_->sizes[r];
        const size_t skip = std::accumulate(sizes.begin(), sizes.begin() + rank_, size_t{0});
        if (receive_bytes[r] > 0) std::memcpy(to, hub_->sends[r] + skip, receive_bytes[r]);
      }
    });
  }
  void ring_exchange(const void* send, size_t, void* receive, size_t receive_bytes, Deadline deadline) override {
    exchange(send, {}, deadline, [&] {
      const int from = (rank_ + size() - 1) % size();
      if (receive_bytes > 0) std::memcpy(receive, hub_->sends[static_cast<size_t>(from)], receive_bytes);
    });
  }
  void abort() noexcept override {
    const std::lock_guard lock(hub_->mutex);
    aborted_ = true;
    if (hub_->lost < 0) hub_->lost = rank_;
    hub_->changed.notify_all();
  }

 protected:
  const std::byte* peer(size_t r) const { return hub_->sends[r]; }
  std::span<const size_t> sizes_of(size_t r) const { return hub_->sizes[r]; }

  /// Publishes what this rank sends, runs `copy` when all have, and returns when all have copied.
  void exchange(const void* send, std::span<const size_t> sizes, Deadline deadline, const std::function<void()>& copy) {
    {
      const std::lock_guard lock(hub_->mutex);
      throw_if_broken();
      hub_->sends[static_cast<size_t>(rank_)] = static_cast<const std::byte*>(send);
      hub_->sizes[static_cast<size_t>(rank_)] = sizes;
    }
    barrier(deadline);
    copy();
    barrier(deadline);
  }

 private:
  void leave() noexcept {
    const std::lock_guard lock(hub_->mutex);
    if (hub_->lost < 0) hub_->lost = rank_;
    hub_->changed.notify_all();
  }

  void throw_if_broken() {
    if (aborted_) throw CommError("aborted", "abort() was called on rank " + std::to_string(rank_), rank_);
    if (hub_->lost >= 0) throw CommError("peer_lost", "rank " + std::to_string(hub_->lost) + " is gone", hub_->lost);
  }

  void barrier(Deadline deadline) {
    std::unique_lock lock(hub_->mutex);
    throw_if_broken();
    const int64_t round = hub_->round;
    if (++hub_->arrived == size()) {
      hub_->arrived = 0;
      ++hub_->round;
      hub_->changed.notify_all();
      return;
    }
    const bool on_time =
        hub_->changed.wait_until(lock, deadline, [&] { return hub_->round != round || hub_->lost >= 0; });
    if (hub_->round != round) return;  // complete: a peer that left afterwards breaks the next one
    if (!on_time) {
      hub_->lost = rank_;
      hub_->changed.notify_all();
      throw CommError("deadline", "rank " + std::to_string(rank_) + " waited for its peers in vain");
    }
    throw_if_broken();
  }

  std::shared_ptr<ThreadHub> hub_;
  int rank_;
  bool aborted_ = false;  // under the hub's mutex
};

inline std::vector<std::unique_ptr<Communicator>> connect_threads(int ranks) {
  auto hub = std::make_shared<ThreadHub>(ranks);
  std::vector<std::unique_ptr<Communicator>> out;
  for (int r = 0; r < ranks; ++r) out.push_back(std::make_unique<ThreadCommunicator>(hub, r));
  return out;
}

}  // namespace longhaul::testing
