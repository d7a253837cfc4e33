// Forming the mesh among strangers, wrong secrets, late and missing ranks.
#include <netinet/in.h>
#include <sys/socket.h>

#include <atomic>

#include "comm/socket.h"
#include "comm_mesh.h"

using namespace comm_test;

namespace {

void meet(Communicator& comm) {
  const std::vector<size_t> bytes(static_cast<size_t>(comm.size()), 1);
  std::vector<char> data(bytes.size());
  comm.all_gather(data.data() + comm.rank(), data.data(), bytes, soon());
}

/// A stranger's connection that sends `noise`, perhaps nothing, and stays open.
Socket stranger(int port, const std::string& noise) {
  std::string error;
  Socket socket = start_connect({"127.0.0.1", std::to_string(port)}, 0, error);
  std::vector<pollfd> one = {{socket.fd(), POLLOUT, 0}};
  poll_until(one, soon());
  if (!noise.empty()) CHECK(::send(socket.fd(), noise.data(), noise.size(), kNoSignal) > 0);
  return socket;
}

}  // namespace

TEST("comm: strangers that say nothing, noise, or half a hello do not hold up the mesh") {
  Listeners listeners(3);
  std::vector<Socket> strangers;
  for (const auto& listener : listeners.all) {
    for (int i = 0; i < 20; ++i) {
      strangers.push_back(stranger(listener->port(), ""));
      strangers.push_back(stranger(listener->port(), "GET / HTTP/1.1\r\nHost: rank\r\n\r\n" + std::string(500, 'x')));
      strangers.push_back(stranger(listener->port(), "longhaul"));
      stranger(listener->port(), "gone");
    }
  }
  const auto start = Clock::now();
  on_threads(3, [&](int rank) { meet(*listeners.connect(rank)); });
  CHECK(Clock::now() - start < 4s);  // less than a stranger may stay
}

TEST("comm: more strangers than the mesh listens to push each other out, not the ranks") {
  Listeners listeners(2);
  std::atomic<bool> formed{false};
  std::thread flood([&] {
    std::vector<Socket> open;
    while (!formed && open.size() < 400) open.push_back(stranger(listeners.all[0]->port(), ""));
    while (!formed) std::this_thread::sleep_for(10ms);
  });
  on_threads(2, [&](int rank) {
    if (rank == 1) std::this_thread::sleep_for(300ms);
    const auto comm = listeners.connect(rank);
    formed = true;
    meet(*comm);
  });
  flood.join();
}

TEST("comm: a wrong secret is refused, and the others form as soon as the right one comes") {
  Listeners listeners(2);
  Listeners impostor(2);
  impostor.peers[0] = listeners.peers[0];
  std::thread wrong([&] {
    const std::string message = CHECK_THROWS(CommError, "refused", impostor.connect(1, soon(), "guess"));
    CHECK(message.find("does not know this cohort's secret") != std::string::npos);
  });
  std::thread right([&] {
    wrong.join();
    meet(*listeners.connect(1));
  });
  meet(*listeners.connect(0));
  right.join();
}

TEST("comm: another size, another rank and a rank that is taken are refused with the reason") {
  Listeners listeners(3);
  std::thread zero([&] { meet(*listeners.connect(0)); });

  Listeners other(4);
  other.peers[0] = listeners.peers[0];
  CHECK(CHECK_THROWS(CommError, "refused", other.connect(1)).find("it is rank 0 of 3, expected rank 0 of 4") != std::string::npos);

  Listeners swapped(3);
  swapped.peers[1] = listeners.peers[0];
  CHECK(CHECK_THROWS(CommError, "refused", swapped.connect(2)).find("it is rank 0 of 3, expected rank 1") != std::string::npos);

  std::thread one([&] { meet(*listeners.connect(1)); });
  std::this_thread::sleep_for(300ms);  // rank 1 has its place
  Listeners twin(3);
  twin.peers[0] = listeners.peers[0];
  CHECK(CHECK_THROWS(CommError, "refused", twin.connect(1)).find("another process is connected to it as rank 1") != std::string::npos);

  meet(*listeners.connect(2));
  zero.join();
  one.join();
}

TEST("comm: ranks may come late, and before the listeners of the others are there") {
  Listeners listeners(3);
  const int port = listeners.all[0]->port();
  listeners.all[0].reset();
  on_threads(3, [&](int rank) {
    if (rank == 0) {
      std::this_thread::sleep_for(300ms);
      listeners.all[0] = std::make_unique<TcpListener>("127.0.0.1", port);
    }
    meet(*listeners.connect(rank));
  });
}

TEST("comm: ranks that never come are named when the deadline passes") {
  Listeners listeners(4);
  const std::string nobody = "127.0.0.1:" + std::to_string(TcpListener("127.0.0.1").port());
  listeners.peers[0] = nobody;
  on_threads(2, [&](int index) {
    const int rank = index + 1;
    const std::string message = CHECK_THROWS(CommError, "deadline", listeners.connect(rank, in(400ms)));
    CHECK(message.find("rank 0 (" + nobody + ": Connection refused)") != std::string::npos);
    CHECK(message.find("rank 3") != std::string::npos);
    CHECK(message.find("rank 2 (") == std::string::npos || rank != 1);
  });
}

TEST("comm: abort ends a connect that waits") {
  Listeners listeners(2);
  std::thread aborter([&] {
    std::this_thread::sleep_for(100ms);
    listeners.all[0]->abort();
  });
  const auto start = Clock::now();
  CHECK_THROWS(CommError, "aborted", listeners.connect(0));
  CHECK(Clock::now() - start < 10s);
  aborter.join();
}

TEST("comm: addresses that make no sense are refused with the address") {
  CHECK(CHECK_THROWS(CommError, "protocol", parse_endpoint("host")).find("'host'") != std::string::npos);
  CHECK_THROWS(CommError, "protocol", parse_endpoint("host:port"));
  CHECK_THROWS(CommError, "protocol", parse_endpoint(":1"));
  CHECK(parse_endpoint("[::1]:80").host == "::1");
  CHECK(parse_endpoint("rank0.cohort:80").port == "80");
  CHECK(CHECK_THROWS(CommError, "protocol", TcpListener("203.0.113.7")).find("203.0.113.7") != std::string::npos);
  TcpListener listener("127.0.0.1");
  CHECK_THROWS(CommError, "protocol", connect_tcp(listener, 2, {"a:1", "b:2"}, "secret", soon()));
}
