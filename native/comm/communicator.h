// The seam between the ranks of a cohort.
//
// Every rank calls the same collectives in the same order with matching sizes. Each call has a
// deadline; a call that cannot finish throws CommError and leaves the communicator broken: every
// later call throws at once, and the cohort must form anew. There is no recovery inside one.
#pragma once

#include <chrono>
#include <cstddef>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>

namespace longhaul {

using Clock = std::chrono::steady_clock;
using Deadline = Clock::time_point;

/// Why a collective failed. `code` is one of: "aborted" (abort() was called here), "peer_lost"
/// (a peer closed or reset), "deadline", "refused" (wrong secret, rank or size), "protocol".
class CommError : public std::runtime_error {
 public:
  CommError(std::string code, const std::string& message, int peer = -1)
      : std::runtime_error(message), code_(std::move(code)), peer_(peer) {}
  const std::string& code() const { return code_; }
  /// The rank at fault, or -1 when that is not known.
  int peer() const { return peer_; }

 private:
  std::string code_;
  int peer_;
};

class Communicator {
 public:
  virtual ~Communicator() = default;

  virtual int rank() const = 0;
  virtual int size() const = 0;
  /// "solo", "tcp" or "nccl".
  virtual std::string kind() const = 0;
  /// True when send and receive pointers are device memory (nccl), false for host memory. Collectives of
  /// device memory see the results of the backend's ops so far, and are only enqueued, one behind the
  /// other: `finish` waits. What depends on them, or must not hang with them, is enqueued after it
  /// or after `precede`.
  virtual bool device_memory() const = 0;
  /// The backend's ops from now on follow the collectives so far, without anybody waiting here. Until `drain`
  /// has returned, waiting for the backend is waiting for the other ranks, without a deadline.
  virtual void precede() {}
  /// As `finish`, for the backend's ops so far as well: a replayed recording may hold collectives.
  virtual void drain(Deadline deadline) { static_cast<void>(deadline); }
  /// Returns when the collectives so far are done; those of host memory are done when they return.
  virtual void finish(Deadline deadline) { static_cast<void>(deadline); }
  /// The same ranks' communicator for host memory.
  virtual Communicator& host() { return *this; }
  /// A rank whose connection has closed, or -1; never waits. Throws like a collective once broken.
  virtual int lost_peer() { return -1; }

  /// `bytes[r]` bytes of every rank r, known to all, end up in `receive` in rank order.
  /// `send` holds bytes[rank()] bytes and may lie in its place inside `receive`.
  virtual void all_gather(const void* send, void* receive, std::span<const size_t> bytes,
                          Deadline deadline) = 0;

  /// `data` of `root` is copied into `data` of every other rank.
  virtual void broadcast(void* data, size_t bytes, int root, Deadline deadline) = 0;

  /// send_bytes[r] bytes go to rank r, receive_bytes[r] come from it; both buffers are dense and
  /// in rank order.
  virtual void all_to_all(const void* send, std::span<const size_t> send_bytes, void* receive,
                          std::span<const size_t> receive_bytes, Deadline deadline) = 0;

  /// Sends to rank + 1 and receives from rank - 1 (modulo size) at the same time.
  virtual void ring_exchange(const void* send, size_t send_bytes, void* receive,
                             size_t receive_bytes, Deadline deadline) = 0;

  /// May be called from any thread, more than once: the call in progress and every later one
  /// throws CommError("aborted"); peers see "peer_lost".
  virtual void abort() noexcept = 0;
};

}  // namespace longhaul
