#include "nccl.h"

#include <algorithm>
#include <functional>
#include <optional>
#include <thread>
#include <utility>

namespace longhaul {
namespace {

using namespace std::chrono_literals;

/// How long a closed connection may precede the end of a collective that its rank took part in.
constexpr auto kGrace = 1s;
/// How long a healthy communicator may take to say goodbye before it is aborted.
constexpr auto kGoodbye = 2s;
/// A collective of a decoding step is over before this; only longer waits give the processor away.
constexpr auto kSpin = 1ms;

class Nccl final : public Communicator {
 public:
  Nccl(const nccl::Library& library, std::unique_ptr<Communicator> mesh, std::unique_ptr<Stream> stream, Deadline deadline)
      : nccl_(library), mesh_(std::move(mesh)), stream_(std::move(stream)) {
    nccl::UniqueId id{};
    void* const unused = stream_->handle();  // NCCL takes the thread's device
    static_cast<void>(unused);
    if (rank() == 0) require(nccl_.get_unique_id(&id), "making the unique id");
    mesh_->broadcast(&id, sizeof id, 0, deadline);
    nccl::Config config;
    call_ = "forming the communicator";
    settle(nccl_.comm_init_rank_config(&comm_, size(), id, rank(), &config), deadline);
  }

  ~Nccl() override {
    if (!comm_) return;
    const Deadline limit = Clock::now() + kGoodbye;
    nccl::Result state = nccl_.comm_finalize(comm_);
    while ((state == nccl::kSuccess || state == nccl::kInProgress) && Clock::now() < limit) {
      if (nccl_.comm_get_async_error(comm_, &state) != nccl::kSuccess) break;
      if (state == nccl::kSuccess) {
        nccl_.comm_destroy(comm_);
        return;
      }
      std::this_thread::sleep_for(100us);
    }
    nccl_.comm_abort(comm_);
  }

  int rank() const override { return mesh_->rank(); }
  int size() const override { return mesh_->size(); }
  std::string kind() const override { return "nccl"; }
  bool device_memory() const override { return true; }
  Communicator& host() override { return *mesh_; }

  void all_gather(const void* send, void* receive, std::span<const size_t> bytes, Deadline deadline) override {
    if (std::adjacent_find(bytes.begin(), bytes.end(), std::not_equal_to<>()) == bytes.end()) {
      return enqueue("all_gather", deadline, [&](void* stream) {
        return nccl_.all_gather(send, receive, bytes[0], nccl::kBytes, comm_, stream);
      });
    }
    const auto self = static_cast<size_t>(rank());
    enqueue("all_gather", deadline, [&](void* stream) {
      nccl::Result result = nccl::kSuccess;
      auto* into = static_cast<std::byte*>(receive);
      for (size_t r = 0; r < bytes.size() && good(result); into += bytes[r], ++r) {
        if (r == self && into == send) continue;
        result = send_to(r, send, bytes[self], stream);
        if (good(result)) result = receive_from(r, into, bytes[r], stream);
      }
      return result;
    });
  }

  void broadcast(void* data, size_t bytes, int root, Deadline deadline) override {
    enqueue("broadcast", deadline, [&](void* stream) {
      return nccl_.broadcast(data, data, bytes, nccl::kBytes, root, comm_, stream);
    });
  }

  void all_to_all(const void* send, std::span<const size_t> send_bytes, void* receive,
                  std::span<const size_t> receive_bytes, Deadline deadline) override {
    enqueue("all_to_all", deadline, [&](void* stream) {
      nccl::Result result = nccl::kSuccess;
      auto* from = static_cast<const std::byte*>(send);
      auto* into = static_cast<std::byte*>(receive);
      for (size_t r = 0; r < send_bytes.size() && good(result); from += send_bytes[r], into += receive_bytes[r], ++r) {
        result = send_to(r, from, send_bytes[r], stream);
        if (good(result)) result = receive_from(r, into, receive_bytes[r], stream);
      }
      return result;
    });
  }

  void ring_exchange(const void* send, size_t send_bytes, void* receive, size_t receive_bytes,
                     Deadline deadline) override {
    enqueue("ring_exchange", deadline, [&](void* stream) {
      const auto ranks = static_cast<size_t>(size()), self = static_cast<size_t>(rank());
      const nccl::Result result = send_to((self + 1) % ranks, send, send_bytes, stream);
      return good(result) ? receive_from((self + ranks - 1) % ranks, receive, receive_bytes, stream) : result;
    });
  }

  void precede() override {
    if (failure_) throw CommError(*failure_);
    stream_->precede();
  }

  void drain(Deadline deadline) override {
    if (failure_) throw CommError(*failure_);
    stream_->follow();
    finish(deadline);
  }

  void finish(Deadline deadline) override {
    wait(deadline, [&] { return stream_->done(); });
  }

  int lost_peer() override { return mesh_->lost_peer(); }

  void abort() noexcept override { mesh_->abort(); }  // the owning thread sees it, and aborts NCCL's part

 private:
  static bool good(nccl::Result result) { return result == nccl::kSuccess || result == nccl::kInProgress; }

  nccl::Result send_to(size_t peer, const void* data, size_t bytes, void* stream) {
    return bytes == 0 ? nccl::kSuccess : nccl_.send(data, bytes, nccl::kBytes, static_cast<int>(peer), comm_, stream);
  }
  nccl::Result receive_from(size_t peer, void* data, size_t bytes, void* stream) {
    return bytes == 0 ? nccl::kSuccess : nccl_.receive(data, bytes, nccl::kBytes, static_cast<int>(peer), comm_, stream);
  }

  /// Everything that `calls` asks of NCCL becomes one operation on the stream.
  void enqueue(const char* call, Deadline deadline, const std::function<nccl::Result(void*)>& calls) {
    if (failure_) throw CommError(*failure_);
    call_ = call;
    peer_that_left();  // for what it throws once aborted: the work may be done before anybody waits
    void* const stream = stream_->handle();
    stream_->follow();
    require(nccl_.group_start(), call);
    const nccl::Result inside = calls(stream);
    const nccl::Result result = nccl_.group_end();  // in any case: the thread stays in the group otherwise
    settle(good(inside) ? result : inside, deadline);
  }

  /// A non-blocking call goes on behind our back: the next may come only when this one is through.
  void settle(nccl::Result result, Deadline deadline) {
    require(result, call_);
    if (result == nccl::kInProgress) wait(deadline, [&] { return state() == nccl::kSuccess; });
  }

  /// What the communicator says of itself: in progress or well; throws for anything else.
  nccl::Result state() {
    nccl::Result state = nccl::kSuccess;
    require(nccl_.comm_get_async_error(comm_, &state), call_);
    require(state, call_);
    return state;
  }

  /// Polls until `done`; meanwhile an abort, a lost rank, an error of NCCL's or the deadline ends it.
  void wait(Deadline deadline, const std::function<bool()>& done) {
    if (failure_) throw CommError(*failure_);
    const auto start = Clock::now();
    std::optional<Clock::time_point> lost_since;
    while (!done()) {
      const auto now = Clock::now();
      if (now - start < kSpin) {
        std::this_thread::yield();
        continue;
      }
      const int lost = peer_that_left();
      if (lost >= 0 && !lost_since) lost_since = now;
      if (lost_since && now - *lost_since >= kGrace)
        fail({"peer_lost", "rank " + std::to_string(lost) + " is lost in " + call_ + " by NCCL: it closed the connection", lost});
      state();
      if (now >= deadline)
        fail({"deadline", std::string(call_) + " by NCCL did not finish in time on rank " + std::to_string(rank())});
      std::this_thread::sleep_for(50us);
    }
  }

  int peer_that_left() {
    try {
      return mesh_->lost_peer();
    } catch (const CommError& error) {
      fail(error);
    }
  }

  void require(nccl::Result result, const char* what) {
    if (good(result)) return;
    const char* detail = comm_ ? nccl_.get_last_error(comm_) : nullptr;
    std::string message = std::string("NCCL: ") + what + ": " + nccl_.get_error_string(result);
    if (detail && *detail) message += std::string(" (") + detail + ")";
    fail({result == nccl::kRemoteError ? "peer_lost" : "protocol", message});
  }

  /// Frees the stream of what will never end, tells the other ranks, and stays broken.
  [[noreturn]] void fail(const CommError& error) {
    failure_ = std::make_unique<CommError>(error);
    mesh_->abort();
    if (nccl::Comm broken = std::exchange(comm_, nullptr)) nccl_.comm_abort(broken);
    throw CommError(*failure_);
  }

  const nccl::Library& nccl_;
  const std::unique_ptr<Communicator> mesh_;
  const std::unique_ptr<Stream> stream_;
  nccl::Comm comm_ = nullptr;
  const char* call_ = "";
  std::unique_ptr<CommError> failure_;
};

}  // namespace

std::unique_ptr<Communicator> connect_nccl(const nccl::Library& library, std::unique_ptr<Communicator> mesh,
                                           std::unique_ptr<Stream> stream, Deadline deadline) {
  return std::make_unique<Nccl>(library, std::move(mesh), std::move(stream), deadline);
}

}  // namespace longhaul
