#include "handshake.h"

#include <unistd.h>

#include <bit>
#include <cerrno>
#include <cstring>
#if __has_include(<sys/random.h>)
#include <sys/random.h>
#endif

namespace longhaul {
namespace {

static_assert(std::endian::native == std::endian::little);

constexpr std::array<char, 8> kMagic = {'l', 'o', 'n', 'g', 'h', 'a', 'u', 'l'};
constexpr uint32_t kVersion = 1;

enum class Verdict : char { Welcome = 1, Taken = 2 };

}  // namespace

Handshake::Handshake(Socket socket, const Identity& me, int to)
    : socket_(std::move(socket)), me_(me), peer_(to), stage_(to >= 0 ? Stage::Connecting : Stage::AwaitHello) {
  mine_ = {kMagic, kVersion, me.rank, to, me.size, {}};
  if (::getentropy(mine_.nonce.data(), mine_.nonce.size()) != 0) {
    throw CommError("protocol", "no random numbers for the handshake: " + errno_text(errno));
  }
}

Handshake Handshake::dial(Socket socket, const Identity& me, int to) { return {std::move(socket), me, to}; }
Handshake Handshake::answer(Socket socket, const Identity& me) { return {std::move(socket), me, -1}; }

short Handshake::events() const { return stage_ == Stage::Connecting ? POLLOUT : POLLIN; }

Handshake::State Handshake::advance(const std::vector<Socket>& connected) {
  for (;;) {
    const Stage before = stage_;
    const State state = step(connected);
    if (broken_ && state == State::Working) return State::Closed;
    if (state != State::Working || stage_ == before) return state;
  }
}

Handshake::State Handshake::step(const std::vector<Socket>& connected) {
  switch (stage_) {
    case Stage::Connecting:
      if (const int error = connect_result(socket_.fd())) return end(State::Closed, errno_text(error));
      send(&mine_, sizeof mine_);
      stage_ = Stage::AwaitReply;
      return State::Working;
    case Stage::AwaitHello: return receive(sizeof(Hello)) ? on_hello() : State::Working;
    case Stage::AwaitReply: return receive(sizeof(Hello) + sizeof(Digest)) ? on_reply() : State::Working;
    case Stage::AwaitProof: return receive(sizeof(Digest)) ? on_proof(connected) : State::Working;
    case Stage::AwaitVerdict: return receive(1) ? on_verdict() : State::Working;
  }
  return State::Closed;
}

Handshake::State Handshake::on_hello() {
  std::memcpy(&theirs_, in_.data(), sizeof theirs_);
  in_.clear();
  if (theirs_.magic != kMagic) return end(State::Closed, "not a longhaul rank");
  // Even a caller of another version, size or rank gets the reply: it learns from it what is wrong.
  std::array<char, sizeof(Hello) + sizeof(Digest)> reply;
  const Digest mac = proof("accept");
  std::memcpy(reply.data(), &mine_, sizeof mine_);
  std::memcpy(reply.data() + sizeof mine_, mac.data(), mac.size());
  send(reply.data(), reply.size());
  if (theirs_.version != kVersion || theirs_.size != me_.size || theirs_.to != me_.rank ||
      theirs_.rank <= me_.rank || theirs_.rank >= me_.size) {
    return end(State::Refused, "its rank or size does not fit this mesh");
  }
  peer_ = theirs_.rank;
  stage_ = Stage::AwaitProof;
  return State::Working;
}

Handshake::State Handshake::on_reply() {
  Digest mac;
  std::memcpy(&theirs_, in_.data(), sizeof theirs_);
  std::memcpy(mac.data(), in_.data() + sizeof theirs_, mac.size());
  in_.clear();
  // A retried dial to a free local port can end up connected to itself.
  if (theirs_.nonce == mine_.nonce) return end(State::Closed, "nothing listens there");
  if (theirs_.magic != kMagic) return end(State::Refused, "what answers there is not a longhaul rank");
  if (theirs_.version != kVersion) {
    return end(State::Refused, "it runs another version of longhaul; use one build for all ranks");
  }
  if (!equal_digests(mac, proof("accept"))) {
    return end(State::Refused, "it does not know this cohort's secret");
  }
  if (theirs_.rank != peer_ || theirs_.size != me_.size) {
    return end(State::Refused, "it is rank " + std::to_string(theirs_.rank) + " of " + std::to_string(theirs_.size) +
                                   ", expected rank " + std::to_string(peer_) + " of " + std::to_string(me_.size));
  }
  const Digest mine = proof("dial");
  send(mine.data(), mine.size());
  stage_ = Stage::AwaitVerdict;
  return State::Working;
}

Handshake::State Handshake::on_proof(const std::vector<Socket>& connected) {
  Digest mac;
  std::memcpy(mac.data(), in_.data(), mac.size());
  if (!equal_digests(mac, proof("dial"))) return end(State::Refused, "it does not know this cohort's secret");
  const bool taken{connected[static_cast<size_t>(peer_)]};
  const Verdict verdict = taken ? Verdict::Taken : Verdict::Welcome;
  send(&verdict, 1);
  return taken ? end(State::Refused, "its rank is connected already") : State::Done;
}

Handshake::State Handshake::on_verdict() {
  if (static_cast<Verdict>(in_[0]) == Verdict::Welcome) return State::Done;
  return end(State::Refused, "another process is connected to it as rank " + std::to_string(me_.rank));
}

Handshake::State Handshake::end(State state, std::string reason) {
  reason_ = std::move(reason);
  return state;
}

bool Handshake::receive(size_t bytes) {
  const size_t had = in_.size();
  in_.resize(bytes);
  const ssize_t got = ::recv(socket_.fd(), in_.data() + had, bytes - had, 0);
  in_.resize(had + static_cast<size_t>(got > 0 ? got : 0));
  if (got == 0 || (got < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR)) {
    broken_ = true;
    reason_ = got == 0 ? "it closed the connection during the handshake" : errno_text(errno);
  }
  return in_.size() == bytes;
}

void Handshake::send(const void* data, size_t bytes) {
  // Less than 100 bytes into the empty buffer of a fresh connection: it takes all of them or is broken.
  if (::send(socket_.fd(), data, bytes, kNoSignal) == static_cast<ssize_t>(bytes)) return;
  broken_ = true;
  reason_ = "the connection broke during the handshake";
}

Digest Handshake::proof(const char* label) const {
  const bool dialled = mine_.to >= 0;
  const Hello& dialler = dialled ? mine_ : theirs_;
  const Hello& listener = dialled ? theirs_ : mine_;
  std::string message = "longhaul ";
  message.append(label);
  message.append(reinterpret_cast<const char*>(&dialler), sizeof dialler);
  message.append(reinterpret_cast<const char*>(&listener), sizeof listener);
  return hmac_sha256(me_.secret, message);
}

}  // namespace longhaul
