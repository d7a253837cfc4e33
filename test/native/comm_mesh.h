// Ranks for the tests of native/comm: threads of this process, or forked processes.
#pragma once

#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <exception>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "comm/tcp.h"
#include "check.h"

namespace comm_test {

using namespace longhaul;
using namespace std::chrono_literals;

inline Deadline in(std::chrono::milliseconds time) { return Clock::now() + time; }

/// Under sanitizers, on a busy machine with two cores, nothing healthy takes this long.
inline Deadline soon() { return in(60s); }

struct Listeners {
  explicit Listeners(int ranks, const std::string& host = "127.0.0.1") {
    for (int r = 0; r < ranks; ++r) {
      all.push_back(std::make_unique<TcpListener>(host));
      peers.push_back((host.find(':') == std::string::npos ? host : "[" + host + "]") + ":" +
                      std::to_string(all.back()->port()));
    }
  }
  std::unique_ptr<Communicator> connect(int rank, Deadline deadline = soon(), const std::string& secret = "secret") {
    return connect_tcp(*all[static_cast<size_t>(rank)], rank, peers, secret, deadline);
  }
  std::vector<std::unique_ptr<TcpListener>> all;
  std::vector<std::string> peers;
};

/// Runs body(rank) on a thread per rank; rethrows the first failure.
inline void on_threads(int ranks, const std::function<void(int)>& body) {
  std::vector<std::exception_ptr> failures(static_cast<size_t>(ranks));
  std::vector<std::thread> threads;
  for (int r = 0; r < ranks; ++r) {
    threads.emplace_back([&, r] {
      try {
        body(r);
      } catch (...) {
        failures[static_cast<size_t>(r)] = std::current_exception();
      }
    });
  }
  for (auto& thread : threads) thread.join();
  for (const auto& failure : failures) {
    if (failure) std::rethrow_exception(failure);
  }
}

/// Runs body(communicator) on a connected mesh of threads.
inline void on_mesh(int ranks, const std::function<void(Communicator&)>& body) {
  Listeners listeners(ranks);
  on_threads(ranks, [&](int rank) { body(*listeners.connect(rank)); });
}

/// A forked child that ends without running the parent's destructors.
class Child {
 public:
  explicit Child(const std::function<void()>& body) : pid_(::fork()) {
    if (pid_ != 0) return;
    int status = 0;
    try {
      body();
    } catch (...) {
      status = 1;
    }
    ::_exit(status);
  }
  ~Child() {
    if (pid_ > 0) kill(SIGKILL);
    wait();
  }
  void kill(int signal) { ::kill(pid_, signal); }
  int wait() {
    int status = -1;
    if (pid_ > 0) ::waitpid(std::exchange(pid_, -1), &status, 0);
    return status;
  }

 private:
  pid_t pid_;
};

}  // namespace comm_test
