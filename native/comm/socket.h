// Non-blocking sockets: the few system calls that the mesh needs.
#pragma once

#include <poll.h>
#include <sys/socket.h>

#include <atomic>
#include <string>
#include <utility>
#include <vector>

#include "communicator.h"

namespace longhaul {

#ifdef MSG_NOSIGNAL
inline constexpr int kNoSignal = MSG_NOSIGNAL;
#else
inline constexpr int kNoSignal = 0;  // macOS: SO_NOSIGPIPE on the socket instead
#endif

/// Owns a file descriptor.
class Socket {
 public:
  Socket() = default;
  explicit Socket(int fd) : fd_(fd) {}
  Socket(Socket&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Socket& operator=(Socket&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~Socket();
  int fd() const { return fd_; }
  int release() { return std::exchange(fd_, -1); }
  explicit operator bool() const { return fd_ >= 0; }

 private:
  int fd_ = -1;
};

struct Endpoint {
  std::string host, port;
  std::string text() const { return host + ":" + port; }
};

/// "host:port" or "[v6]:port"; throws CommError("protocol").
Endpoint parse_endpoint(const std::string& text);

/// A listening socket; an empty host means every interface. Throws CommError("protocol").
Socket listen_on(const std::string& host, int port);
int local_port(int fd);

/// The next waiting connection, or an empty socket when there is none.
Socket accept_next(int listener);

/// Starts to connect to one of the endpoint's addresses (they take turns with `attempt`).
/// On failure the socket is empty and `error` says why.
Socket start_connect(const Endpoint& endpoint, size_t attempt, std::string& error);

/// The outcome of a connect that poll reported: 0 or an errno.
int connect_result(int fd);

/// What a long-lived connection between ranks needs: no Nagle delay, keepalive.
void tune(int fd);

std::string errno_text(int error);

/// Waits for an event or the deadline, whichever is first; restarts after signals.
void poll_until(std::vector<pollfd>& polled, Deadline deadline);

/// Raised once, from any thread; wakes a poll on `fd()`.
class AbortFlag {
 public:
  AbortFlag();
  void raise() noexcept;
  bool raised() const { return raised_; }
  int fd() const { return read_.fd(); }
  [[noreturn]] void fail() const;

 private:
  std::atomic<bool> raised_{false};
  Socket read_, write_;
};

}  // namespace longhaul
