// The communicator against peers that talk nonsense: strangers during the handshake, and a rank that knows the secret
// and then sends damaged frames. A collective ends in time, with the right bytes or a CommError.
#include <sys/socket.h>

#include <cstring>
#include <set>
#include <thread>

#include "../../native/comm_mesh.h"
#include "comm/handshake.h"
#include "fuzz.h"

using namespace longhaul;
using namespace std::chrono_literals;

namespace {

const std::string kSecret = "secret";

struct Frame {
  uint32_t op, sequence;
  uint64_t bytes;
};

Socket call(const std::string& peer) {
  std::string error;
  return start_connect(parse_endpoint(peer), 0, error);
}

void wait_for(const Socket& socket, short events, std::chrono::milliseconds time) {
  std::vector<pollfd> polled = {{socket.fd(), events, 0}};
  poll_until(polled, Clock::now() + time);
}

void say(const Socket& socket, const std::string& bytes) {
  if (!socket) return;
  wait_for(socket, POLLOUT, 1s);
  [[maybe_unused]] const ssize_t sent = ::send(socket.fd(), bytes.data(), bytes.size(), kNoSignal);
}

std::string hello(fuzz::Random& random) {
  Hello hello{{'l', 'o', 'n', 'g', 'h', 'a', 'u', 'l'}, 1, 1, 0, 2, {}};
  std::string bytes(reinterpret_cast<const char*>(&hello), sizeof hello);
  const auto put = [&](size_t at, uint32_t value) { std::memcpy(bytes.data() + at, &value, sizeof value); };
  if (random.one_in(2)) put(8 + 4 * random.below(4), static_cast<uint32_t>(random.edge()));
  if (random.one_in(3)) bytes = fuzz::damaged(bytes, {"GET / HTTP/1.1\r\n\r\n", "\x16\x03\x01"}, random);
  return bytes + random.bytes(random.one_in(2) ? 64 : 0);
}

/// Rank 1's end of a connection to rank 0, through the whole handshake.
Socket join(const std::string& peer, Clock::time_point until) {
  const std::vector<Socket> connected(2);
  while (Clock::now() < until) {
    Handshake handshake = Handshake::dial(call(peer), {1, 2, kSecret}, 0);
    for (auto state = Handshake::State::Working; Clock::now() < until && state == Handshake::State::Working;) {
      std::vector<pollfd> polled = {{handshake.fd(), handshake.events(), 0}};
      poll_until(polled, Clock::now() + 100ms);
      if (polled[0].revents == 0) continue;
      state = handshake.advance(connected);
      if (state == Handshake::State::Done) return handshake.take();
    }
  }
  return {};
}

std::string frame(const Frame& header, const std::string& payload) {
  return std::string(reinterpret_cast<const char*>(&header), sizeof header) + payload;
}

/// The frames of a one-byte gather (which ends the forming) and of a 32-byte one, with damage.
std::string frames(fuzz::Random& random) {
  Frame first{1, 1, 1}, second{1, 2, 32};
  for (Frame* header : {&first, &second}) {
    if (!random.one_in(header == &first ? 6 : 2)) continue;
    switch (random.below(3)) {
      case 0: header->op = static_cast<uint32_t>(random.edge()); break;
      case 1: header->sequence = static_cast<uint32_t>(random.edge()); break;
      case 2: header->bytes = random.edge(); break;
    }
  }
  std::string bytes = frame(first, "\1") + frame(second, std::string(32, 'x'));
  if (random.one_in(3)) bytes = fuzz::damaged(bytes, {std::string(16, '\0'), std::string(300, '\xff')}, random);
  return bytes;
}

}  // namespace

size_t fuzz::frames(Random& random, Clock::time_point until) {
  size_t tried = 0;
  size_t joined = 0;
  for (; Clock::now() < until; ++tried) {
    comm_test::Listeners listeners(2);
    const std::string peer = listeners.peers[0];
    const uint64_t seed = random.edge() ^ tried;
    const auto start = Clock::now();
    bool connected = false;
    std::thread hostile([&] {
      Random own(seed);
      std::vector<Socket> strangers;
      for (size_t i = own.below(4); i > 0; --i) {
        strangers.push_back(call(peer));
        say(strangers.back(), hello(own));
      }
      const Socket rank = join(peer, start + 1s);
      say(rank, ::frames(own));
      // Hanging up and staying silent are both attacks.
      if (rank && own.one_in(2)) wait_for(rank, POLLIN, 50ms);
    });
    std::string what;
    try {
      const auto comm = listeners.connect(0, start + 1s, kSecret);
      connected = true;
      // What lies behind must not be written to: the sanitizer watches the vector's end.
      std::vector<char> send(32, 'y'), receive(64);
      const std::vector<size_t> bytes = {32, 32};
      comm->all_gather(send.data(), receive.data(), bytes, start + 2s);
      CHECK(std::string(receive.data(), 32) == std::string(32, 'y'));
    } catch (const CommError& error) {
      static const std::set<std::string> kCodes = {"deadline", "refused", "peer_lost", "protocol"};
      if (!kCodes.contains(error.code())) what = error.code() + ": " + error.what();
    }
    hostile.join();
    CHECK(what.empty());
    CHECK(Clock::now() - start < 20s);
    joined += connected;
  }
  // Otherwise only the handshake was tried.
  CHECK(tried < 20 || joined > 0);
  return tried;
}
