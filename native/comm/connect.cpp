// Forms the mesh: rank i calls all lower ranks and answers all higher ones, all at the same time
// in one poll loop, so that nobody (a stranger, a slow rank) can hold up the others.
#include <algorithm>
#include <deque>
#include <optional>

#include "handshake.h"
#include "mesh.h"
#include "tcp.h"

namespace longhaul {
namespace {

using namespace std::chrono_literals;

/// Within this time a caller must have proved itself: strangers do not stay.
constexpr auto kAnswerLimit = 5s;
constexpr auto kRedial = 50ms;
/// Unproven callers beyond this many push the oldest out.
constexpr size_t kMaxCallers = 256;

class Forming {
 public:
  Forming(Socket listener, Identity me, const std::vector<std::string>& peers, const AbortFlag& abort,
          Deadline deadline)
      : listener_(std::move(listener)), me_(std::move(me)), abort_(abort), deadline_(deadline),
        connected_(peers.size()), peers_(peers) {
    for (int r = 0; r < me_.rank; ++r) {
      calls_.push_back({r, parse_endpoint(peers[static_cast<size_t>(r)]), 0, Clock::now(), {}, "not called yet"});
    }
  }

  std::vector<Socket> run() {
    while (!missing().empty()) {
      for (Call& call : calls_) place(call);
      wait();
      if (abort_.raised()) abort_.fail();
      if (Clock::now() >= deadline_) throw too_late();
      for (Call& call : calls_) advance(call);
      advance_callers();
      accept();
    }
    return std::move(connected_);
  }

 private:
  struct Call {
    int rank;
    Endpoint endpoint;
    size_t attempts;
    Clock::time_point next;
    std::optional<Handshake> handshake;
    std::string last_error;
  };
  struct Caller {
    Handshake handshake;
    Clock::time_point limit;
  };

  std::vector<int> missing() const {
    std::vector<int> ranks;
    for (int r = 0; r < me_.size; ++r) {
      if (r != me_.rank && !connected_[static_cast<size_t>(r)]) ranks.push_back(r);
    }
    return ranks;
  }

  bool waiting(const Call& call) const { return !connected_[static_cast<size_t>(call.rank)] && !call.handshake; }

  void place(Call& call) {
    if (!waiting(call) || Clock::now() < call.next) return;
    Socket socket = start_connect(call.endpoint, call.attempts++, call.last_error);
    call.next = Clock::now() + kRedial;
    if (!socket) return;
    call.last_error = "no answer";
    call.handshake = Handshake::dial(std::move(socket), me_, call.rank);
  }

  void wait() {
    Clock::time_point until = deadline_;
    std::vector<pollfd> polled = {{abort_.fd(), POLLIN, 0}, {listener_.fd(), POLLIN, 0}};
    for (const Call& call : calls_) {
      if (call.handshake) polled.push_back({call.handshake->fd(), call.handshake->events(), 0});
      if (waiting(call)) until = std::min(until, call.next);
    }
    for (const Caller& caller : callers_) {
      polled.push_back({caller.handshake.fd(), caller.handshake.events(), 0});
      until = std::min(until, caller.limit);
    }
    poll_until(polled, until);
  }

  void advance(Call& call) {
    // A connect that has no outcome yet must not be advanced; the rest is harmless without an event.
    if (!call.handshake || !ready(*call.handshake)) return;
    switch (call.handshake->advance(connected_)) {
      case Handshake::State::Working: return;
      case Handshake::State::Done: keep(*call.handshake); break;
      case Handshake::State::Closed: call.last_error = call.handshake->reason(); break;
      case Handshake::State::Refused:
        throw CommError("refused", "rank " + std::to_string(call.rank) + " at " + call.endpoint.text() +
                                       " cannot join: " + call.handshake->reason(), call.rank);
    }
    call.handshake.reset();
  }

  void advance_callers() {
    std::erase_if(callers_, [&](Caller& caller) {
      const Handshake::State state = caller.handshake.advance(connected_);
      if (state == Handshake::State::Done) keep(caller.handshake);
      return state != Handshake::State::Working || Clock::now() >= caller.limit;
    });
  }

  void accept() {
    while (Socket socket = accept_next(listener_.fd())) {
      if (callers_.size() >= kMaxCallers) callers_.pop_front();
      callers_.push_back({Handshake::answer(std::move(socket), me_), Clock::now() + kAnswerLimit});
    }
  }

  static bool ready(const Handshake& handshake) {
    std::vector<pollfd> one = {{handshake.fd(), handshake.events(), 0}};
    poll_until(one, Clock::now());
    return one[0].revents != 0;
  }

  void keep(Handshake& handshake) {
    Socket socket = handshake.take();
    tune(socket.fd());
    connected_[static_cast<size_t>(handshake.peer())] = std::move(socket);
  }

  CommError too_late() const {
    std::string text = "the mesh of " + std::to_string(me_.size) + " ranks did not form in time; rank " +
                       std::to_string(me_.rank) + " misses";
    const std::vector<int> ranks = missing();
    for (const int r : ranks) {
      text += (r == ranks.front() ? " rank " : ", rank ") + std::to_string(r) + " (" + peers_[static_cast<size_t>(r)] + ": " +
              (r < me_.rank ? calls_[static_cast<size_t>(r)].last_error : "did not call") + ")";
    }
    return {"deadline", text, ranks.front()};
  }

  Socket listener_;
  Identity me_;
  const AbortFlag& abort_;
  Deadline deadline_;
  std::vector<Socket> connected_;  // by rank; empty: not yet (and this rank itself)
  const std::vector<std::string>& peers_;
  std::vector<Call> calls_;        // by rank
  std::deque<Caller> callers_;
};

}  // namespace

TcpListener::TcpListener(const std::string& host, int port) : abort_(std::make_shared<AbortFlag>()) {
  Socket socket = listen_on(host, port);
  port_ = local_port(socket.fd());
  socket_ = socket.release();
}

TcpListener::~TcpListener() { const Socket closing{release()}; }

void TcpListener::abort() noexcept { abort_->raise(); }

int TcpListener::release() { return std::exchange(socket_, -1); }

std::unique_ptr<Communicator> connect_tcp(TcpListener& listener, int rank,
                                          const std::vector<std::string>& peers,
                                          const std::string& secret, Deadline deadline) {
  const int size = static_cast<int>(peers.size());
  if (rank < 0 || rank >= size) {
    throw CommError("protocol", "rank " + std::to_string(rank) + " is not one of the " + std::to_string(size) + " peers");
  }
  Socket socket(listener.release());
  if (!socket) throw CommError("protocol", "this listener has formed a mesh already; open a new one");
  const auto abort = listener.abort_flag();
  Forming forming(std::move(socket), {rank, size, secret}, peers, *abort, deadline);
  auto mesh = make_mesh(rank, forming.run(), abort);
  // Every rank waits for every other one here: after it, a silent peer is a slow peer, not a missing one.
  std::vector<char> seen(static_cast<size_t>(size));
  const std::vector<size_t> bytes(static_cast<size_t>(size), 1);
  mesh->all_gather(seen.data() + rank, seen.data(), bytes, deadline);
  return mesh;
}

}  // namespace longhaul
