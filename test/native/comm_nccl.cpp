// NCCL's communicator over a double of the library (test/native/nccl), and the choice between communicators.
// What needs GPUs is tested by test/gpu.
#include <algorithm>
#include <atomic>
#include <cstring>
#include <numeric>

#include "backends/cpu/cpu_backend.h"
#include "comm/choose.h"
#include "engine/errors.h"
#include "golden_case.h"
#include "nccl/ranks.h"

using namespace longhaul;
using namespace comm_test;
using namespace longhaul::testing;

namespace {

void on_nccl(int ranks, const std::function<void(Communicator&)>& body) {
  Listeners listeners(ranks);
  on_threads(ranks, [&](int rank) { body(*connect_double(listeners, rank)); });
}

/// The code of the CommError that `body` throws, and the seconds that it took.
std::pair<std::string, double> failure(const std::function<void()>& body) {
  const auto start = Clock::now();
  std::string code = "nothing thrown";
  try {
    body();
  } catch (const CommError& error) {
    code = error.code();
  }
  return {code, std::chrono::duration<double>(Clock::now() - start).count()};
}

std::vector<int> numbers(int rank, size_t count) {
  std::vector<int> out(count);
  std::iota(out.begin(), out.end(), rank * 1000);
  return out;
}

/// Every collective against tcp's result, unequal sizes and ranks without a part included.
void compare_with_tcp(Communicator& nccl) {
  const int rank = nccl.rank(), ranks = nccl.size();
  const auto both = [&](size_t size, const std::function<void(Communicator&, int*)>& call) {
    std::vector<int> expected(size, -1), found(size, -1);
    call(nccl.host(), expected.data());
    call(nccl, found.data());
    nccl.finish(soon());
    CHECK(expected == found);
  };
  for (const int step : {0, 3}) {
    std::vector<size_t> counts, bytes;
    for (int r = 0; r < ranks; ++r) counts.push_back(static_cast<size_t>(step == 0 ? 5 : r * step));
    for (const size_t count : counts) bytes.push_back(count * sizeof(int));
    const size_t before = std::accumulate(counts.begin(), counts.begin() + rank, size_t{0});
    const size_t total = std::accumulate(counts.begin(), counts.end(), size_t{0});
    const std::vector<int> own = numbers(rank, counts[static_cast<size_t>(rank)]);
    both(total, [&](Communicator& c, int* to) { c.all_gather(own.data(), to, bytes, soon()); });
    both(total, [&](Communicator& c, int* to) {
      std::copy(own.begin(), own.end(), to + before);
      c.all_gather(to + before, to, bytes, soon());  // in its place
    });
    const std::vector<int> sent = numbers(rank, static_cast<size_t>(ranks) * counts[static_cast<size_t>(rank)]);
    const std::vector<size_t> out(static_cast<size_t>(ranks), bytes[static_cast<size_t>(rank)]);
    both(total, [&](Communicator& c, int* to) { c.all_to_all(sent.data(), out, to, bytes, soon()); });
  }
  for (int root = 0; root < ranks; ++root)
    both(7, [&](Communicator& c, int* to) {
      if (rank == root) std::copy_n(numbers(rank, 7).begin(), 7, to);
      c.broadcast(to, 7 * sizeof(int), root, soon());
    });
  const size_t from = static_cast<size_t>((rank + ranks - 1) % ranks) + 2;
  const std::vector<int> own = numbers(rank, static_cast<size_t>(rank) + 2);
  both(from, [&](Communicator& c, int* to) {
    c.ring_exchange(own.data(), own.size() * sizeof(int), to, from * sizeof(int), soon());
  });
}

}  // namespace

TEST("comm: nccl: every collective gives what tcp gives, for 2, 3 and 4 ranks") {
  for (const int ranks : {2, 3, 4}) on_nccl(ranks, compare_with_tcp);
  CHECK(!double_control().multicast);
  CHECK(double_control().live == 0);
}

TEST("comm: nccl: calls in progress are waited for before the next one") {
  double_control().slow_polls = 20;
  on_nccl(3, compare_with_tcp);
  double_control().slow_polls = 0;
  CHECK(double_control().live == 0);
}

TEST("comm: nccl: a started collective lets its rank go on; finish waits for it") {
  std::atomic<bool> computed{false};
  on_nccl(2, [&](Communicator& c) {
    std::vector<int> all(2, -1);
    const int own = c.rank();
    const std::vector<size_t> bytes(2, sizeof(int));
    if (c.rank() == 0) {
      c.all_gather(&own, all.data(), bytes, soon());
      computed = true;  // rank 1 comes only after this
    } else {
      while (!computed) std::this_thread::yield();
      c.all_gather(&own, all.data(), bytes, soon());
    }
    c.finish(soon());
    CHECK(all == (std::vector<int>{0, 1}));
  });
}

TEST("comm: nccl: a rank that never comes ends the collective at its deadline, and frees the stream") {
  const int aborted = double_control().aborted;
  std::atomic<bool> over{false};
  on_nccl(2, [&](Communicator& c) {
    std::vector<int> all(2);
    const int own = 1;
    const std::vector<size_t> bytes(2, sizeof(int));
    if (c.rank() == 1) {
      while (!over) std::this_thread::sleep_for(1ms);
      const auto gather = [&] { c.all_gather(&own, all.data(), bytes, soon()), c.finish(soon()); };
      CHECK(failure([&] { gather(), gather(); }).first == "peer_lost");  // what was sent before the abort may still arrive
      return;
    }
    c.all_gather(&own, all.data(), bytes, soon());
    CHECK(failure([&] { c.finish(in(300ms)); }).first == "deadline");
    over = true;
    CHECK(failure([&] { c.all_gather(&own, all.data(), bytes, soon()); }).first == "deadline");
  });
  CHECK(double_control().aborted == aborted + 2);
  CHECK(double_control().live == 0);
}

TEST("comm: nccl: abort from another thread ends the collective in progress, here and at the peer") {
  on_nccl(2, [&](Communicator& c) {
    std::vector<int> all(2);
    if (c.rank() == 1) {  // each waits for the other to send
      const auto [code, seconds] = failure([&] { c.broadcast(all.data(), 4, 0, soon()), c.finish(soon()); });
      CHECK(code == "peer_lost");
      CHECK(seconds < 10);
      return;
    }
    std::thread other([&] {
      std::this_thread::sleep_for(50ms);
      c.abort();
    });
    const std::string code = failure([&] { c.broadcast(all.data(), 4, 1, soon()), c.finish(soon()); }).first;
    other.join();
    CHECK(code == "aborted");
  });
  CHECK(double_control().live == 0);
}

TEST("comm: nccl: a killed rank is noticed within 10 s, though NCCL itself says nothing") {
  Listeners listeners(2);
  Child child([&] {
    const auto c = connect_double(listeners, 1);
    char byte = 1;
    c->host().broadcast(&byte, 1, 1, soon());
    ::pause();
  });
  listeners.all[1].reset();
  const auto c = connect_double(listeners, 0);
  char byte = 0;
  c->host().broadcast(&byte, 1, 1, soon());
  child.kill(SIGKILL);
  std::vector<int> all(2);
  const std::vector<size_t> bytes(2, sizeof(int));
  const auto [code, seconds] = failure([&] { c->all_gather(all.data(), all.data(), bytes, soon()), c->finish(soon()); });
  CHECK(code == "peer_lost");
  CHECK(seconds < 10);
}

TEST("comm: nccl: an error that NCCL reports of itself ends the collective in its words") {
  on_nccl(2, [&](Communicator& c) {
    char ready = 1;
    c.host().broadcast(&ready, 1, 0, soon());
    if (c.rank() == 1) {
      CHECK(failure([&] { c.host().broadcast(&ready, 1, 0, soon()); }).first == "peer_lost");
      return;
    }
    double_control().async_error = nccl::kRemoteError;
    int data = 0;
    std::string words;
    try {
      c.broadcast(&data, 4, 1, soon());
      c.finish(soon());
    } catch (const CommError& error) {
      words = error.what();
      CHECK(error.code() == "peer_lost");
    }
    double_control().async_error = 0;
    CHECK(words.find("remote error") != std::string::npos && words.find("said by the double") != std::string::npos);
  });
}

TEST("comm: nccl: a library that is missing, or none, is named with its remedy") {
  for (const char* path : {"/nowhere/libnccl.so.2", "libm.so.6"}) {
    std::string words;
    try {
      nccl::open(path);
    } catch (const EngineError& error) {
      CHECK(error.code() == "unsupported");
      words = error.what();
    }
    CHECK(words.find(path) != std::string::npos);
    CHECK(words.find("LONGHAUL_NCCL") != std::string::npos && words.find("--comm tcp") != std::string::npos);
  }
}

TEST("comm: choice: nccl needs a GPU of its own for every rank, and one version") {
  const auto offer = [](char device, uint32_t version, const char* lacks = "") {
    CommOffer made{CommChoice::Auto, version, {}, {}};
    made.device[0] = device;
    std::strcpy(made.lacks.data(), lacks);
    return made;
  };
  const auto obstacles = [](std::vector<CommOffer> offers) { return nccl_obstacles(offers); };
  CHECK(obstacles({offer('a', 22907), offer('b', 22907), offer('c', 22907)}).empty());
  CHECK(obstacles({offer('a', 22907), offer('b', 22907), offer('a', 22907)}).find("rank 2 shares its GPU with rank 0") == 0);
  CHECK(obstacles({offer('a', 22907), offer('b', 23007)}).find("rank 1 has NCCL 2.30.7 where rank 0 has 2.29.7") == 0);
  CHECK(obstacles({offer('a', 22907), offer('b', 0, "a driver")}) == "rank 1 lacks a driver");
}

TEST("comm: choice: auto falls back to tcp on CPUs; nccl that was named is refused on every rank; ranks must agree") {
  const auto choose = [](CommChoice of_rank_0, CommChoice of_rank_1) {
    std::array<std::string, 2> outcome;
    Listeners listeners(2);
    on_threads(2, [&](int rank) {
      const auto backend = make_cpu_backend({1, Isa::Auto, Precision::Float32});
      try {
        const CommOptions options{rank == 0 ? of_rank_0 : of_rank_1, double_path()};
        outcome[static_cast<size_t>(rank)] = choose_communicator(listeners.connect(rank), *backend, options, soon())->kind();
      } catch (const EngineError& error) {
        outcome[static_cast<size_t>(rank)] = error.code() + ": " + error.what();
      }
    });
    return outcome;
  };
  CHECK(choose(CommChoice::Auto, CommChoice::Auto) == (std::array<std::string, 2>{"tcp", "tcp"}));
  CHECK(choose(CommChoice::Tcp, CommChoice::Tcp) == (std::array<std::string, 2>{"tcp", "tcp"}));
  for (const std::string& refused : choose(CommChoice::Nccl, CommChoice::Nccl)) {
    CHECK(refused.find("unsupported: ") == 0);
    CHECK(refused.find("rank 0 lacks a GPU backend") != std::string::npos && refused.find("rank 1 lacks") != std::string::npos);
  }
  for (const std::string& refused : choose(CommChoice::Nccl, CommChoice::Tcp))
    CHECK(refused.find("invalid_argument: rank 1 was told --comm tcp, rank 0 --comm nccl") == 0);
}

namespace {

const bool golden_registered = [] {
  for (const char* name : {"apb-r4-uneven", "apb-r3-spava", "apb-r2-eos", "full-r4", "star-r3-default-anchor"})
    check::registry().push_back({std::string("comm: nccl: golden case ") + name, [name] {
      const GoldenCase golden(name);
      auto engines = make_engines(golden, connect_doubles(golden.layout.ranks), plain_device);
      CHECK(engines[0]->communicator().kind() == "nccl");
      run_case(golden, engines, 50);
    }});
  return true;
}();

}  // namespace
