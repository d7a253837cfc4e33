// Both ends of a new connection prove that they know the cohort's secret, over fresh nonces:
//
//   dialler -> Hello                           who it is, whom it wants, the size it forms
//   listener -> Hello, HMAC("accept", ...)     proves the secret first, and says who it is
//   dialler -> HMAC("dial", ...)
//   listener -> one byte                       Verdict
//
// Each HMAC covers both hellos. A Handshake never blocks: it moves as far as its socket lets it.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "sha256.h"
#include "socket.h"

namespace longhaul {

struct Hello {
  std::array<char, 8> magic;
  uint32_t version;
  int32_t rank, to, size;  // `to` is -1 in the listener's hello
  std::array<uint8_t, 32> nonce;
};
static_assert(sizeof(Hello) == 56, "sent as it lies in memory, little-endian");

/// Who this rank is, and which ranks have not connected yet.
struct Identity {
  int rank, size;
  std::string secret;
};

class Handshake {
 public:
  enum class State {
    Working,
    Done,     // peer() is connected, take() its socket
    Closed,   // transient: the connection broke or said nonsense
    Refused,  // final: the other end cannot become part of this mesh; reason() says why
  };

  /// A connection that we opened to the listener of rank `to`; it may still be connecting.
  static Handshake dial(Socket socket, const Identity& me, int to);
  /// A connection that somebody opened to us.
  static Handshake answer(Socket socket, const Identity& me);

  /// Call when poll reports an event. `connected[r]` is set when rank r has its connection already.
  State advance(const std::vector<Socket>& connected);

  int fd() const { return socket_.fd(); }
  short events() const;
  int peer() const { return peer_; }
  const std::string& reason() const { return reason_; }
  Socket take() { return std::move(socket_); }

 private:
  enum class Stage { Connecting, AwaitHello, AwaitReply, AwaitProof, AwaitVerdict };

  Handshake(Socket socket, const Identity& me, int to);
  State step(const std::vector<Socket>& connected);
  State on_hello();
  State on_reply();
  State on_proof(const std::vector<Socket>& connected);
  State on_verdict();
  State end(State state, std::string reason);

  bool receive(size_t bytes);  // true once `in_` holds that many
  void send(const void* data, size_t bytes);
  Digest proof(const char* label) const;

  Socket socket_;
  Identity me_;
  int peer_;
  Stage stage_;
  Hello mine_{}, theirs_{};
  std::vector<char> in_;
  bool broken_ = false;
  std::string reason_;
};

}  // namespace longhaul
