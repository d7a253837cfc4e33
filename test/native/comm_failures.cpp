// What a cohort sees when a rank is frozen, killed, aborted or out of step.
#include <csignal>

#include "comm_mesh.h"

using namespace comm_test;

namespace {

void gather(Communicator& comm, Deadline deadline = soon()) {
  const std::vector<size_t> bytes(static_cast<size_t>(comm.size()), 1000);
  std::vector<char> send(1000), receive(1000 * bytes.size());
  comm.all_gather(send.data(), receive.data(), bytes, deadline);
}

int peer_of(const std::function<void()>& body) {
  try {
    body();
  } catch (const CommError& error) {
    return error.peer();
  }
  return -2;
}

/// Collectives until killed.
void gather_forever(Communicator& comm) {
  for (;;) gather(comm);
}

}  // namespace

TEST("comm: a killed process is peer_lost at once, by its rank, for every other rank") {
  Listeners listeners(3);
  Child victim([&] { gather_forever(*listeners.connect(1)); });
  Child other([&] {
    const auto comm = listeners.connect(2);
    const int lost = peer_of([&] { gather_forever(*comm); });
    if (lost != 1 && lost != 0) ::_exit(2);  // 0 when rank 0 saw it first and left
  });
  const auto comm = listeners.connect(0);
  for (int i = 0; i < 10; ++i) gather(*comm);
  victim.kill(SIGKILL);
  const auto killed = Clock::now();
  // Rank 2 may notice first and hang up, which is a lost peer too.
  std::string message = CHECK_THROWS(CommError, "peer_lost", gather_forever(*comm));
  CHECK(Clock::now() - killed < 5s);
  CHECK(message.find("rank 1") != std::string::npos || message.find("rank 2") != std::string::npos);
  CHECK(CHECK_THROWS(CommError, "peer_lost", gather(*comm)) == message);  // broken for good
  CHECK(other.wait() == 0);
}

TEST("comm: a killed process among two names that rank") {
  Listeners listeners(2);
  Child victim([&] { gather_forever(*listeners.connect(1)); });
  const auto comm = listeners.connect(0);
  gather(*comm);
  victim.kill(SIGKILL);
  CHECK(peer_of([&] { gather_forever(*comm); }) == 1);
}

TEST("comm: a frozen process is a deadline that names it") {
  Listeners listeners(2);
  Child frozen([&] { gather_forever(*listeners.connect(1)); });
  const auto comm = listeners.connect(0);
  gather(*comm);
  frozen.kill(SIGSTOP);
  std::string message;
  const auto start = Clock::now();
  message = CHECK_THROWS(CommError, "deadline", for (;;) gather(*comm, in(300ms)));
  CHECK(Clock::now() - start < 10s);
  CHECK(message.find("waits for rank 1") != std::string::npos);
}

TEST("comm: a deadline that has passed already breaks the communicator, and the peer sees it") {
  on_mesh(2, [](Communicator& comm) {
    if (comm.rank() == 0) {
      CHECK_THROWS(CommError, "deadline", gather(comm, in(-1ms)));
      CHECK_THROWS(CommError, "deadline", gather(comm));
    } else {
      // Rank 0's first message may have left before its deadline was looked at.
      CHECK_THROWS(CommError, "peer_lost", gather(comm); gather(comm));
    }
  });
}

TEST("comm: abort from another thread ends the call in progress and every later one; peers see peer_lost") {
  on_mesh(3, [](Communicator& comm) {
    if (comm.rank() == 0) {
      std::thread aborter([&] {
        std::this_thread::sleep_for(100ms);
        comm.abort();
        comm.abort();
      });
      char byte = 0;
      CHECK_THROWS(CommError, "aborted", for (;;) comm.broadcast(&byte, 1, 1, soon()));
      CHECK_THROWS(CommError, "aborted", gather(comm));
      aborter.join();
    } else {
      std::this_thread::sleep_for(200ms);  // busy elsewhere while rank 0 aborts
      CHECK_THROWS(CommError, "peer_lost", gather_forever(comm));
    }
  });
}

TEST("comm: an aborted rank that never enters a call is peer_lost at once") {
  on_mesh(2, [](Communicator& comm) {
    if (comm.rank() == 0) {
      comm.abort();
      std::this_thread::sleep_for(500ms);
    } else {
      const auto start = Clock::now();
      CHECK_THROWS(CommError, "peer_lost", gather(comm));
      CHECK(Clock::now() - start < 450ms);
    }
  });
}

TEST("comm: abort of a rank alone") {
  const auto solo = make_solo();
  solo->abort();
  CHECK_THROWS(CommError, "aborted", gather(*solo));
}

TEST("comm: ranks that call different collectives, or other sizes, are out of step") {
  on_mesh(2, [](Communicator& comm) {
    char data[8] = {};
    const std::vector<size_t> sizes(2, 4);
    try {
      if (comm.rank() == 0) comm.broadcast(data, 8, 0, soon());
      else comm.all_gather(data, data, sizes, soon());
      // Rank 0's broadcast waits for nobody; it is told in the next call.
      gather(comm);
      CHECK(false);
    } catch (const CommError& error) {
      CHECK(error.code() == "protocol" || error.code() == "peer_lost");
      if (comm.rank() == 1) {
        CHECK(error.code() == "protocol" && error.peer() == 0);
        CHECK(std::string(error.what()).find("broadcast (call 2, 8 bytes)") != std::string::npos);
      }
    }
  });
  on_mesh(2, [](Communicator& comm) {
    const size_t mine = comm.rank() == 0 ? 10 : 20;
    std::vector<char> data(64);
    CHECK_THROWS(CommError, "protocol", comm.ring_exchange(data.data(), mine, data.data() + 32, mine, soon()));
  });
}

TEST("comm: sizes for another number of ranks are refused before anything is sent") {
  const auto solo = make_solo();
  const std::vector<size_t> two(2, 1);
  char data[4] = {};
  CHECK_THROWS(CommError, "protocol", solo->all_gather(data, data, two, soon()));
  CHECK_THROWS(CommError, "protocol", solo->broadcast(data, 1, 1, soon()));
  on_mesh(2, [&](Communicator& comm) {
    const std::vector<size_t> three(3, 1);
    if (comm.rank() == 0) CHECK_THROWS(CommError, "protocol", comm.all_gather(data, data, three, soon()));
    else CHECK_THROWS(CommError, "peer_lost", gather(comm));
  });
}
