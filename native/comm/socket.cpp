#include "socket.h"

#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <limits>
#include <memory>
#include <system_error>

namespace longhaul {
namespace {

void set_flags(int fd) {
  ::fcntl(fd, F_SETFL, ::fcntl(fd, F_GETFL) | O_NONBLOCK);
  ::fcntl(fd, F_SETFD, FD_CLOEXEC);
#ifdef SO_NOSIGPIPE
  const int on = 1;
  ::setsockopt(fd, SOL_SOCKET, SO_NOSIGPIPE, &on, sizeof on);
#endif
}

struct FreeAddresses {
  void operator()(addrinfo* list) const { ::freeaddrinfo(list); }
};
using Addresses = std::unique_ptr<addrinfo, FreeAddresses>;

/// `error` is filled when the result is null.
Addresses resolve(const std::string& host, const std::string& port, int flags, std::string& error) {
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = flags | AI_NUMERICSERV;
  addrinfo* list = nullptr;
  const int code = ::getaddrinfo(host.empty() ? nullptr : host.c_str(), port.c_str(), &hints, &list);
  if (code == EAI_SYSTEM) error = errno_text(errno);
  else if (code != 0) error = ::gai_strerror(code);
  return Addresses(list);
}

}  // namespace

Socket::~Socket() {
  if (fd_ >= 0) ::close(fd_);
}

std::string errno_text(int error) { return std::generic_category().message(error); }

Endpoint parse_endpoint(const std::string& text) {
  const size_t colon = text.rfind(':');
  if (colon == std::string::npos || colon == 0 || colon + 1 == text.size() ||
      text.find_first_not_of("0123456789", colon + 1) != std::string::npos) {
    throw CommError("protocol", "peer address '" + text + "' is not host:port");
  }
  std::string host = text.substr(0, colon);
  if (host.size() > 2 && host.front() == '[' && host.back() == ']') host = host.substr(1, host.size() - 2);
  return {host, text.substr(colon + 1)};
}

Socket listen_on(const std::string& host, int port) {
  const std::string where = (host.empty() ? "*" : host) + ":" + std::to_string(port);
  std::string error = "no address";
  const Addresses addresses = resolve(host, std::to_string(port), AI_PASSIVE, error);
  for (const addrinfo* at = addresses.get(); at != nullptr; at = at->ai_next) {
    Socket socket(::socket(at->ai_family, at->ai_socktype, at->ai_protocol));
    if (socket) {
      const int on = 1;
      ::setsockopt(socket.fd(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
      set_flags(socket.fd());
      if (::bind(socket.fd(), at->ai_addr, at->ai_addrlen) == 0 && ::listen(socket.fd(), 256) == 0) {
        return socket;
      }
    }
    error = errno_text(errno);
  }
  throw CommError("protocol", "cannot listen on " + where + ": " + error +
                                  "; give an address of this machine and a free port (0 picks one)");
}

int local_port(int fd) {
  sockaddr_storage address{};
  socklen_t length = sizeof address;
  ::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length);
  if (address.ss_family == AF_INET6) return ntohs(reinterpret_cast<sockaddr_in6&>(address).sin6_port);
  return ntohs(reinterpret_cast<sockaddr_in&>(address).sin_port);
}

Socket accept_next(int listener) {
  Socket socket(::accept(listener, nullptr, nullptr));
  if (socket) set_flags(socket.fd());
  return socket;
}

Socket start_connect(const Endpoint& endpoint, size_t attempt, std::string& error) {
  const Addresses addresses = resolve(endpoint.host, endpoint.port, 0, error);
  if (!addresses) return {};
  size_t count = 0;
  for (const addrinfo* at = addresses.get(); at != nullptr; at = at->ai_next) ++count;
  const addrinfo* chosen = addresses.get();
  for (size_t skip = attempt % count; skip > 0; --skip) chosen = chosen->ai_next;

  Socket socket(::socket(chosen->ai_family, chosen->ai_socktype, chosen->ai_protocol));
  if (socket) {
    set_flags(socket.fd());
    if (::connect(socket.fd(), chosen->ai_addr, chosen->ai_addrlen) == 0 || errno == EINPROGRESS) return socket;
  }
  error = errno_text(errno);
  return {};
}

int connect_result(int fd) {
  int error = 0;
  socklen_t length = sizeof error;
  ::getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length);
  return error;
}

void tune(int fd) {
  auto set = [fd](int level, int option, int value) {
    ::setsockopt(fd, level, option, &value, sizeof value);  // best effort: only speed and detection depend on it
  };
  // Buffer sizes stay with the kernel: it grows them to tcp_rmem and tcp_wmem, above what
  // SO_RCVBUF may ask for on an untuned host; measured no slower on loopback.
  set(IPPROTO_TCP, TCP_NODELAY, 1);
  set(SOL_SOCKET, SO_KEEPALIVE, 1);
#ifdef TCP_KEEPIDLE
  set(IPPROTO_TCP, TCP_KEEPIDLE, 10);
  set(IPPROTO_TCP, TCP_KEEPINTVL, 5);
  set(IPPROTO_TCP, TCP_KEEPCNT, 4);
#endif
}

void poll_until(std::vector<pollfd>& polled, Deadline deadline) {
  for (;;) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now()).count();
    const auto wait = std::clamp<long long>(left, 0, std::numeric_limits<int>::max());
    const int ready = ::poll(polled.data(), static_cast<nfds_t>(polled.size()), static_cast<int>(wait));
    if (ready >= 0) return;
    if (errno != EINTR) throw CommError("protocol", "poll failed: " + errno_text(errno));
  }
}

AbortFlag::AbortFlag() {
  int ends[2];
  if (::pipe(ends) != 0) throw CommError("protocol", "cannot open a pipe: " + errno_text(errno));
  read_ = Socket(ends[0]);
  write_ = Socket(ends[1]);
  set_flags(ends[0]);
  set_flags(ends[1]);
}

void AbortFlag::raise() noexcept {
  if (raised_.exchange(true)) return;
  const char byte = 0;
  [[maybe_unused]] const ssize_t written = ::write(write_.fd(), &byte, 1);  // an empty pipe takes one byte
}

void AbortFlag::fail() const {
  throw CommError("aborted", "the communicator was aborted; connect again");
}

}  // namespace longhaul
