// Every collective, over 1 to 5 ranks, with pieces of every size.
#include <algorithm>
#include <cstring>
#include <numeric>

#include "comm_mesh.h"

using namespace comm_test;

namespace {

using Bytes = std::vector<char>;

/// What rank `from` sends to rank `to`: recognisable at every place.
Bytes piece(int from, int to, size_t bytes) {
  Bytes data(bytes);
  for (size_t i = 0; i < bytes; ++i) data[i] = static_cast<char>(static_cast<size_t>(from * 31 + to * 7) + i + (i >> 8));
  return data;
}

void append(Bytes& to, const Bytes& piece) { to.insert(to.end(), piece.begin(), piece.end()); }

size_t sum(const std::vector<size_t>& sizes) { return std::accumulate(sizes.begin(), sizes.end(), size_t{0}); }

void check_all_gather(Communicator& comm, const std::vector<size_t>& bytes, bool in_place) {
  const auto mine = static_cast<size_t>(comm.rank());
  const Bytes send = piece(comm.rank(), 0, bytes[mine]);
  Bytes receive(sum(bytes), '?'), want;
  for (int r = 0; r < comm.size(); ++r) append(want, piece(r, 0, bytes[static_cast<size_t>(r)]));
  const char* from = send.data();
  if (in_place) {
    char* place = receive.data() + std::accumulate(bytes.begin(), bytes.begin() + comm.rank(), size_t{0});
    std::copy(send.begin(), send.end(), place);
    from = place;
  }
  comm.all_gather(from, receive.data(), bytes, soon());
  CHECK(receive == want);
}

void check_broadcast(Communicator& comm, size_t bytes) {
  for (int root = 0; root < comm.size(); ++root) {
    Bytes data = comm.rank() == root ? piece(root, 9, bytes) : Bytes(bytes, '?');
    comm.broadcast(data.data(), bytes, root, soon());
    CHECK(data == piece(root, 9, bytes));
  }
}

/// size(from, to) bytes go from each rank to each other.
void check_all_to_all(Communicator& comm, const std::function<size_t(int, int)>& size) {
  std::vector<size_t> out, in;
  Bytes send, want;
  for (int r = 0; r < comm.size(); ++r) {
    out.push_back(size(comm.rank(), r));
    in.push_back(size(r, comm.rank()));
    append(send, piece(comm.rank(), r, out.back()));
    append(want, piece(r, comm.rank(), in.back()));
  }
  Bytes receive(want.size(), '?');
  comm.all_to_all(send.data(), out, receive.data(), in, soon());
  CHECK(receive == want);
}

void check_ring(Communicator& comm, const std::function<size_t(int)>& size) {
  const int previous = (comm.rank() + comm.size() - 1) % comm.size();
  const Bytes send = piece(comm.rank(), 3, size(comm.rank()));
  Bytes receive(size(previous), '?');
  comm.ring_exchange(send.data(), send.size(), receive.data(), receive.size(), soon());
  CHECK(receive == piece(previous, 3, size(previous)));
}

void check_all(Communicator& comm) {
  const int n = comm.size();
  auto sizes = [&](const std::function<size_t(int)>& of) {
    std::vector<size_t> bytes;
    for (int r = 0; r < n; ++r) bytes.push_back(of(r));
    return bytes;
  };
  for (int round = 0; round < 20; ++round) {  // many calls after each other: none may mix with the next
    check_all_gather(comm, sizes([](int r) { return static_cast<size_t>(r) * 1000 + 1; }), round % 2 == 0);
    check_all_gather(comm, sizes([](int r) { return static_cast<size_t>(r == 0 ? 0 : 5); }), false);
    check_all_gather(comm, sizes([](int) { return size_t{0}; }), false);
    check_broadcast(comm, 12'345);
    check_broadcast(comm, 0);
    check_all_to_all(comm, [](int from, int to) { return static_cast<size_t>((from * 3 + to * 5) % 4) * 999; });
    check_ring(comm, [](int r) { return static_cast<size_t>(r % 3) * 4096; });
  }
}

}  // namespace

TEST("comm: collectives over 1 rank, alone and over tcp") {
  const auto solo = make_solo();
  CHECK(solo->kind() == "solo" && solo->size() == 1 && !solo->device_memory());
  check_all(*solo);
  on_mesh(1, check_all);
}
TEST("comm: collectives over 2 ranks") { on_mesh(2, check_all); }
TEST("comm: collectives over 3 ranks") { on_mesh(3, check_all); }
TEST("comm: collectives over 4 ranks") { on_mesh(4, check_all); }
TEST("comm: collectives over 5 ranks") { on_mesh(5, check_all); }

TEST("comm: pieces of 64 MB move in every collective at once, whatever the buffers of the kernel hold") {
  constexpr size_t kLarge = 64 << 20;
  on_mesh(2, [](Communicator& comm) {
    check_all_gather(comm, {kLarge, kLarge}, false);
    check_broadcast(comm, kLarge);
    check_all_to_all(comm, [](int from, int to) { return from == to ? 10 : kLarge; });
    check_ring(comm, [](int) { return kLarge; });
  });
  on_mesh(3, [](Communicator& comm) { check_all_gather(comm, {0, kLarge, 77}, true); });
}

TEST("comm: ranks in processes of their own, over IPv6 and by host name") {
  for (const std::string host : {"::1", "localhost"}) {
    Listeners listeners(3, host);
    Child one([&] { check_all(*listeners.connect(1)); });
    Child two([&] { check_all(*listeners.connect(2)); });
    check_all(*listeners.connect(0));
    CHECK(one.wait() == 0);
    CHECK(two.wait() == 0);
  }
}
