#include "mesh.h"

#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <numeric>

namespace longhaul {
namespace {

enum class Op : uint32_t { AllGather = 1, Broadcast, AllToAll, RingExchange };

const char* name(uint32_t op) {
  constexpr std::array names = {"an unknown call", "all_gather", "broadcast", "all_to_all", "ring_exchange"};
  return names[op < names.size() ? op : 0];
}

/// In front of every message, so that ranks out of step are an error and never garbage.
struct Header {
  uint32_t op;
  uint32_t sequence;
  uint64_t bytes;
};

/// One message in one direction; `done` counts header and payload.
struct Transfer {
  Header header{};
  std::byte* data = nullptr;
  size_t done = 0;
  bool active = false;

  size_t total() const { return sizeof header + header.bytes; }
  bool finished() const { return !active || done == total(); }
};

#ifdef POLLRDHUP
constexpr short kClosed = POLLRDHUP;
#else
constexpr short kClosed = 0;  // macOS reports POLLHUP unasked
#endif

/// Incoming messages announce themselves in `announced`, and must match the header expected here.
struct Incoming : Transfer {
  Header announced{};
};

/// What is left of `header` and the payload after `done` bytes, for one system call.
struct Remaining {
  std::array<iovec, 2> parts;
  msghdr message{};

  Remaining(Header& header, const Transfer& transfer) {
    const size_t head = std::min(transfer.done, sizeof header);
    const size_t body = transfer.done - head;
    parts[0] = {reinterpret_cast<std::byte*>(&header) + head, sizeof header - head};
    parts[1] = {transfer.header.bytes > 0 ? transfer.data + body : nullptr, transfer.header.bytes - body};
    message.msg_iov = parts.data();
    message.msg_iovlen = parts.size();
  }
};

class Mesh final : public Communicator {
 public:
  Mesh(int rank, std::vector<Socket> sockets, std::shared_ptr<AbortFlag> abort)
      : rank_(static_cast<size_t>(rank)), sockets_(std::move(sockets)), abort_(std::move(abort)),
        outgoing_(sockets_.size()), incoming_(sockets_.size()) {}

  int rank() const override { return static_cast<int>(rank_); }
  int size() const override { return static_cast<int>(sockets_.size()); }
  std::string kind() const override { return "tcp"; }
  bool device_memory() const override { return false; }

  void all_gather(const void* send, void* receive, std::span<const size_t> bytes, Deadline deadline) override {
    begin(Op::AllGather, bytes.size() == sockets_.size());
    auto* into = static_cast<std::byte*>(receive);
    for (size_t r = 0; r < sockets_.size(); ++r) {
      if (r == rank_) {
        copy(into, send, bytes[r]);
      } else {
        send_to(r, send, bytes[rank_]);
        receive_from(r, into, bytes[r]);
      }
      into += bytes[r];
    }
    run(deadline);
  }

  void broadcast(void* data, size_t bytes, int root, Deadline deadline) override {
    begin(Op::Broadcast, root >= 0 && root < size());
    if (root == rank()) {
      for (size_t r = 0; r < sockets_.size(); ++r) {
        if (r != rank_) send_to(r, data, bytes);
      }
    } else {
      receive_from(static_cast<size_t>(root), data, bytes);
    }
    run(deadline);
  }

  void all_to_all(const void* send, std::span<const size_t> send_bytes, void* receive,
                  std::span<const size_t> receive_bytes, Deadline deadline) override {
    begin(Op::AllToAll, send_bytes.size() == sockets_.size() && receive_bytes.size() == sockets_.size() &&
                            send_bytes[rank_] == receive_bytes[rank_]);
    auto* from = static_cast<const std::byte*>(send);
    auto* into = static_cast<std::byte*>(receive);
    for (size_t r = 0; r < sockets_.size(); ++r) {
      if (r == rank_) {
        copy(into, from, send_bytes[r]);
      } else {
        send_to(r, from, send_bytes[r]);
        receive_from(r, into, receive_bytes[r]);
      }
      from += send_bytes[r];
      into += receive_bytes[r];
    }
    run(deadline);
  }

  void ring_exchange(const void* send, size_t send_bytes, void* receive, size_t receive_bytes,
                     Deadline deadline) override {
    const size_t n = sockets_.size();
    begin(Op::RingExchange, n > 1 || send_bytes == receive_bytes);
    if (n == 1) return copy(receive, send, send_bytes);
    send_to((rank_ + 1) % n, send, send_bytes);
    receive_from((rank_ + n - 1) % n, receive, receive_bytes);
    run(deadline);
  }

  int lost_peer() override {
    stop_if_aborted();
    if (failure_) throw CommError(*failure_);
    std::vector<pollfd> polled;
    for (const Socket& socket : sockets_) polled.push_back({socket.fd(), kClosed, 0});  // poll skips our own, -1
    poll_until(polled, Clock::now());
    const auto lost = std::find_if(polled.begin(), polled.end(), [](const pollfd& p) {
      return (p.revents & (kClosed | POLLHUP | POLLERR)) != 0;
    });
    return lost == polled.end() ? -1 : static_cast<int>(lost - polled.begin());
  }

  void abort() noexcept override {
    abort_->raise();
    hang_up();
  }

 private:
  /// Peers learn of it at once, even while this rank's own thread is busy. Closing waits for the
  /// destructor, because the thread may be polling these descriptors.
  void hang_up() noexcept {
    for (const Socket& socket : sockets_) {
      if (socket) ::shutdown(socket.fd(), SHUT_RDWR);
    }
  }

  void stop_if_aborted() {
    if (!abort_->raised()) return;
    hang_up();  // the flag may have been raised through the listener
    abort_->fail();
  }

  void begin(Op op, bool matching) {
    stop_if_aborted();
    if (failure_) throw CommError(*failure_);
    ++sequence_;
    op_ = op;
    std::fill(outgoing_.begin(), outgoing_.end(), Transfer{});
    std::fill(incoming_.begin(), incoming_.end(), Incoming{});
    if (!matching) fail({"protocol", call() + " on rank " + std::to_string(rank_) + " has sizes that do not fit the mesh", rank()});
  }

  void send_to(size_t peer, const void* data, size_t bytes) {
    // sendmsg takes mutable memory but does not write to it.
    static_cast<Transfer&>(outgoing_[peer]) = {header(bytes), static_cast<std::byte*>(const_cast<void*>(data)), 0, true};
  }

  void receive_from(size_t peer, void* data, size_t bytes) {
    static_cast<Transfer&>(incoming_[peer]) = {header(bytes), static_cast<std::byte*>(data), 0, true};
  }

  Header header(size_t bytes) const { return {static_cast<uint32_t>(op_), sequence_, bytes}; }

  static void copy(void* to, const void* from, size_t bytes) {
    if (bytes > 0 && to != from) std::memmove(to, from, bytes);
  }

  /// Sends and receives with all peers at the same time: no order of calls can deadlock.
  void run(Deadline deadline) {
    for (size_t r = 0; r < sockets_.size(); ++r) push(r);  // small messages leave without a poll
    std::vector<size_t> ranks;
    std::vector<pollfd> polled;
    for (;;) {
      ranks.clear();
      polled.assign(1, {abort_->fd(), POLLIN, 0});
      for (size_t r = 0; r < sockets_.size(); ++r) {
        const int events = (outgoing_[r].finished() ? 0 : POLLOUT) | (incoming_[r].finished() ? 0 : POLLIN);
        if (events == 0) continue;
        ranks.push_back(r);
        polled.push_back({sockets_[r].fd(), static_cast<short>(events), 0});
      }
      if (ranks.empty()) return;
      poll_until(polled, deadline);
      stop_if_aborted();
      if (Clock::now() >= deadline) fail(too_late(ranks));
      for (size_t i = 0; i < ranks.size(); ++i) {
        if (polled[i + 1].revents == 0) continue;
        pull(ranks[i]);  // first: what a lost peer has sent still counts
        push(ranks[i]);
      }
    }
  }

  void push(size_t peer) {
    Transfer& out = outgoing_[peer];
    if (out.finished()) return;
    Remaining remaining(out.header, out);
    const ssize_t sent = ::sendmsg(sockets_[peer].fd(), &remaining.message, kNoSignal);
    if (sent >= 0) out.done += static_cast<size_t>(sent);
    else if (!retriable()) fail(lost(peer, errno_text(errno)));
  }

  void pull(size_t peer) {
    Incoming& in = incoming_[peer];
    if (in.finished()) return;
    Remaining remaining(in.announced, in);
    const ssize_t got = ::recvmsg(sockets_[peer].fd(), &remaining.message, 0);
    if (got == 0) fail(lost(peer, "it closed the connection"));
    if (got < 0) {
      if (!retriable()) fail(lost(peer, errno_text(errno)));
      return;
    }
    const bool headless = in.done < sizeof(Header);
    in.done += static_cast<size_t>(got);
    if (headless && in.done >= sizeof(Header) && std::memcmp(&in.announced, &in.header, sizeof(Header)) != 0) {
      fail({"protocol", "rank " + std::to_string(peer) + " is out of step: it sent " + text(in.announced) +
                            " where rank " + std::to_string(rank_) + " expects " + text(in.header), static_cast<int>(peer)});
    }
  }

  static bool retriable() { return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR; }

  [[noreturn]] void fail(const CommError& error) {
    stop_if_aborted();  // the abort itself made the connections fail
    failure_ = std::make_unique<CommError>(error);
    hang_up();
    throw error;
  }

  CommError lost(size_t peer, const std::string& why) const {
    return {"peer_lost", "rank " + std::to_string(peer) + " is lost in " + call() + ": " + why, static_cast<int>(peer)};
  }

  CommError too_late(const std::vector<size_t>& ranks) const {
    std::string message = call() + " did not finish in time; rank " + std::to_string(rank_) + " waits for";
    for (const size_t r : ranks) {
      message += (r == ranks.front() ? " rank " : ", rank ") + std::to_string(r) + " (" + progress("sent", outgoing_[r]) +
                 ", " + progress("received", incoming_[r]) + ")";
    }
    return {"deadline", message, static_cast<int>(ranks.front())};
  }

  static std::string progress(const char* verb, const Transfer& transfer) {
    if (!transfer.active) return std::string("nothing to be ") + verb;
    return std::string(verb) + " " + std::to_string(transfer.done) + " of " + std::to_string(transfer.total()) + " bytes";
  }

  static std::string text(const Header& header) {
    return std::string(name(header.op)) + " (call " + std::to_string(header.sequence) + ", " +
           std::to_string(header.bytes) + " bytes)";
  }

  std::string call() const { return std::string(name(static_cast<uint32_t>(op_))) + " (call " + std::to_string(sequence_) + ")"; }

  const size_t rank_;
  const std::vector<Socket> sockets_;
  const std::shared_ptr<AbortFlag> abort_;
  Op op_{};
  uint32_t sequence_ = 0;
  std::vector<Transfer> outgoing_;  // by rank
  std::vector<Incoming> incoming_;
  std::unique_ptr<CommError> failure_;
};

}  // namespace

std::unique_ptr<Communicator> make_mesh(int rank, std::vector<Socket> sockets, std::shared_ptr<AbortFlag> abort) {
  return std::make_unique<Mesh>(rank, std::move(sockets), std::move(abort));
}

}  // namespace longhaul
