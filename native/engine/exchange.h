// Collectives between backends: joins what a communicator wants (host or device memory) and what a
// backend has, through host buffers only where the two differ. But for `gather_ahead`, nothing of a
// backend is enqueued behind a collective that has not ended, so that waiting for a backend never
// waits for a dead rank.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <future>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "../backends/backend.h"
#include "../comm/communicator.h"
#include "errors.h"

namespace longhaul {

/// What a cooperative stop throws, on every rank.
EngineError stopped_error();

class Exchange {
 public:
  /// Every collective gets its own deadline, `timeout` from its start.
  Exchange(Communicator& communicator, Backend& backend, std::chrono::milliseconds timeout);

  int rank() const { return communicator_.rank(); }
  int size() const { return communicator_.size(); }

  /// All-gather of backend memory: bytes[r] of rank r, in rank order. `send` holds bytes[rank()]
  /// bytes and may lie in its place inside `receive`. Throws CommError.
  void gather(const void* send, void* receive, std::span<const size_t> bytes);

  /// As `gather`, but the communicator need not be through when it returns: the backend's next ops follow it
  /// by themselves. Nothing may wait for the backend until `drain`.
  void gather_ahead(const void* send, void* receive, std::span<const size_t> bytes);

  /// Waits, with a deadline, for what `gather_ahead` began and for the backend's ops so far, replayed ones too.
  /// Throws CommError.
  void drain();

  /// Whether a step that exchanges by `gather_ahead` alone can be recorded, and replayed on all ranks together.
  bool recordable() const { return size() == 1 || ahead(); }

  /// send_bytes[r] bytes of backend memory go to rank r, receive_bytes[r] come from it; both dense
  /// and in rank order. Throws CommError.
  void all_to_all(const void* send, std::span<const size_t> send_bytes, void* receive,
                  std::span<const size_t> receive_bytes);

  /// `root`'s bytes of backend memory reach all ranks. Throws CommError.
  void broadcast(void* data, size_t bytes, int root);

  /// A collective that goes on while the caller computes; nothing else may be exchanged until `finish`.
  /// One that is dropped unfinished (its rank failed) breaks the communicator, so that nobody waits for it.
  class Pending {
   public:
    Pending(Pending&& other) noexcept
        : exchange_(std::exchange(other.exchange_, nullptr)), moving_(std::move(other.moving_)), arrive_(std::move(other.arrive_)) {}
    ~Pending();
    /// Waits until everything has arrived, and what was sent may be overwritten. Throws CommError.
    void finish();

   private:
    friend class Exchange;
    Pending(Exchange& exchange, std::function<void()> move, std::function<void()> arrive);
    Exchange* exchange_;            // null: moved from, or finished
    std::future<void> moving_;      // of host memory, on a thread of its own
    std::function<void()> arrive_;  // from the staging buffer to the device, or empty
  };

  /// `gather`, while the caller goes on computing.
  Pending start_gather(const void* send, void* receive, std::vector<size_t> bytes);

  /// Sends `from` to rank + 1 and fills `into` from rank - 1 (modulo size), both dense, while the
  /// caller goes on computing.
  Pending rotate(const KeyValues& from, const KeyValues& into);

  /// All-gather of one value per rank in host memory: values[rank()] is ours. Throws CommError.
  template <class T>
  void gather_host(std::vector<T>& values) {
    gather_host(values.data(), sizeof(T));
  }

  /// Rank 0's bytes of host memory reach all ranks. Throws CommError.
  void broadcast_host(void* data, size_t bytes);

  /// Throws EngineError("stopped") on every rank when rank 0's `stop` is set.
  void throw_if_stopped(bool stop);

  /// The first collective of a call. Throws on all ranks when one of them cannot take part: our own
  /// `refusal`, or EngineError("invalid_argument") naming the rank that refused or whose request
  /// (by `fingerprint`) is not rank 0's. The communicator lives.
  void agree(uint64_t fingerprint, const std::optional<EngineError>& refusal);

 private:
  void gather_host(void* values, size_t bytes_each);
  /// `bytes` of host memory, valid until the next call.
  std::byte* stage(size_t bytes);
  bool direct() const { return communicator_.device_memory() == !backend_.host_memory(); }
  /// Whether collectives and the backend's ops can wait for each other without us.
  bool ahead() const { return direct() && communicator_.device_memory(); }
  /// A communicator of host memory reads outside the backend's order.
  void settle() {
    if (!communicator_.device_memory()) backend_.synchronize();
  }
  Deadline deadline() const { return Clock::now() + timeout_; }

  Communicator& communicator_;
  Backend& backend_;
  std::chrono::milliseconds timeout_;
  BufferPtr staging_;  // host memory, kept from call to call
};

}  // namespace longhaul
