// Rank processes connected by TCP in a full mesh, on one machine or several.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "communicator.h"

namespace longhaul {

class AbortFlag;

/// Opened before the rendezvous, so that the address can be published in it.
class TcpListener {
 public:
  /// Binds `host` at an ephemeral port (or `port`). Throws CommError("protocol") with errno's text.
  explicit TcpListener(const std::string& host, int port = 0);
  ~TcpListener();
  TcpListener(const TcpListener&) = delete;
  TcpListener& operator=(const TcpListener&) = delete;
  int port() const { return port_; }
  /// May be called from any thread: the connect_tcp in progress, or a later one, throws
  /// CommError("aborted").
  void abort() noexcept;
  int release();  // hands the socket over
  std::shared_ptr<AbortFlag> abort_flag() const { return abort_; }

 private:
  int socket_ = -1;
  int port_ = 0;
  std::shared_ptr<AbortFlag> abort_;
};

/// Connects the mesh, which takes the listener's socket: one listener forms one mesh. `peers[r]`
/// is "host:port" of rank r's listener. `secret` comes from the rendezvous: both sides of a
/// connection prove that they know it (HMAC over fresh nonces), and a connection that cannot is
/// closed without disturbing the others. Returns when every rank has all its connections.
///
/// Throws CommError: "deadline" naming the ranks that are missing, "refused" when one of the peers
/// that this rank calls has another secret, rank, size or version, "aborted", "peer_lost".
std::unique_ptr<Communicator> connect_tcp(TcpListener& listener, int rank,
                                          const std::vector<std::string>& peers,
                                          const std::string& secret, Deadline deadline);

/// The communicator of one rank alone: every collective is a copy.
std::unique_ptr<Communicator> make_solo();

}  // namespace longhaul
