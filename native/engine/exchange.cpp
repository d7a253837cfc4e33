#include "exchange.h"

#include <array>
#include <algorithm>
#include <numeric>

#include "rows.h"

namespace longhaul {

EngineError stopped_error() { return {"stopped", "stopped on request; the next call may follow at once"}; }

Exchange::Exchange(Communicator& communicator, Backend& backend, std::chrono::milliseconds timeout)
    : communicator_(communicator), backend_(backend), timeout_(timeout) {}

std::byte* Exchange::stage(size_t bytes) {
  if (!staging_ || staging_->bytes() < bytes) {
    staging_.reset();  // first, so that old and new are never held together
    staging_ = backend_.allocate_host(std::max<size_t>(bytes, 256));
  }
  return static_cast<std::byte*>(staging_->data());
}

void Exchange::gather(const void* send, void* receive, std::span<const size_t> bytes) {
  const size_t total = std::accumulate(bytes.begin(), bytes.end(), size_t{0});
  if (total == 0) return;  // known to every rank
  settle();
  if (direct()) {
    communicator_.all_gather(send, receive, bytes, deadline());
    return communicator_.finish(deadline());
  }
  const auto self = static_cast<size_t>(rank());
  const size_t before = std::accumulate(bytes.begin(), bytes.begin() + rank(), size_t{0});
  std::byte* staging = stage(total);
  if (bytes[self] > 0) backend_.download(staging + before, send, bytes[self]);
  communicator_.all_gather(staging + before, staging, bytes, deadline());
  backend_.upload(receive, staging, total);
  backend_.synchronize();  // the staging buffer is used again by the next call
}

void Exchange::gather_ahead(const void* send, void* receive, std::span<const size_t> bytes) {
  if (!ahead()) return gather(send, receive, bytes);
  communicator_.all_gather(send, receive, bytes, deadline());
  communicator_.precede();
}

void Exchange::drain() { communicator_.drain(deadline()); }

Exchange::Pending Exchange::start_gather(const void* send, void* receive, std::vector<size_t> bytes) {
  const auto self = static_cast<size_t>(rank());
  const size_t total = std::accumulate(bytes.begin(), bytes.end(), size_t{0});
  const size_t before = std::accumulate(bytes.begin(), bytes.begin() + rank(), size_t{0});
  if (total == 0) return {*this, nullptr, nullptr};
  settle();
  void* into = receive;
  std::function<void()> arrive;
  if (!direct()) {
    std::byte* staging = stage(total);
    if (bytes[self] > 0) backend_.download(staging + before, send, bytes[self]);
    send = staging + before;
    into = staging;
    arrive = [this, receive, staging, total] { backend_.upload(receive, staging, total); };
  }
  return {*this, [this, send, into, bytes = std::move(bytes)] { communicator_.all_gather(send, into, bytes, deadline()); },
          std::move(arrive)};
}

void Exchange::all_to_all(const void* send, std::span<const size_t> send_bytes, void* receive,
                          std::span<const size_t> receive_bytes) {
  settle();
  if (direct()) {
    communicator_.all_to_all(send, send_bytes, receive, receive_bytes, deadline());
    return communicator_.finish(deadline());
  }
  const size_t out = std::accumulate(send_bytes.begin(), send_bytes.end(), size_t{0});
  const size_t in = std::accumulate(receive_bytes.begin(), receive_bytes.end(), size_t{0});
  std::byte* staging = stage(out + in);
  if (out > 0) backend_.download(staging, send, out);
  communicator_.all_to_all(staging, send_bytes, staging + out, receive_bytes, deadline());
  if (in > 0) backend_.upload(receive, staging + out, in);
  backend_.synchronize();  // the staging buffer is used again by the next call
}

void Exchange::broadcast(void* data, size_t bytes, int root) {
  settle();
  if (direct()) {
    communicator_.broadcast(data, bytes, root, deadline());
    return communicator_.finish(deadline());
  }
  std::byte* staging = stage(bytes);
  if (rank() == root) backend_.download(staging, data, bytes);
  communicator_.broadcast(staging, bytes, root, deadline());
  if (rank() != root) backend_.upload(data, staging, bytes);
  backend_.synchronize();
}

Exchange::Pending Exchange::rotate(const KeyValues& from, const KeyValues& into) {
  const auto bytes = [&](const Matrix& m) { return static_cast<size_t>(m.rows * m.columns) * backend_.element_bytes(); };
  const size_t out = bytes(from.keys), in = bytes(into.keys);
  const std::byte* send[2] = {static_cast<std::byte*>(from.keys.data), static_cast<std::byte*>(from.values.data)};
  std::byte* receive[2] = {static_cast<std::byte*>(into.keys.data), static_cast<std::byte*>(into.values.data)};
  settle();
  std::function<void()> arrive;
  if (!direct()) {
    std::byte* staging = stage(2 * (out + in));
    for (size_t i = 0; i < 2; ++i) {
      std::byte* at = staging + i * out;
      if (out > 0) backend_.download(at, send[i], out);
      send[i] = at;
      receive[i] = staging + 2 * out + i * in;
    }
    if (in > 0)
      arrive = [this, into, in, keys = receive[0], values = receive[1]] {
        backend_.upload(into.keys.data, keys, in);
        backend_.upload(into.values.data, values, in);
      };
  }
  const auto move = [this, send = std::array{send[0], send[1]}, receive = std::array{receive[0], receive[1]}, out, in] {
    for (size_t i = 0; i < 2; ++i) communicator_.ring_exchange(send[i], out, receive[i], in, deadline());
  };
  return {*this, move, std::move(arrive)};
}

Exchange::Pending::Pending(Exchange& exchange, std::function<void()> move, std::function<void()> arrive)
    : exchange_(move ? &exchange : nullptr), arrive_(std::move(arrive)) {
  if (!move) return;
  // A device's communicator belongs to the thread that made it, and returns before it is done.
  if (exchange.communicator_.device_memory()) move();
  else moving_ = std::async(std::launch::async, std::move(move));
}

Exchange::Pending::~Pending() {
  if (!exchange_) return;
  Communicator& communicator = exchange_->communicator_;
  communicator.abort();  // then the end of `moving_` is near
  try {
    communicator.finish(exchange_->deadline());  // the device, too, lets go of the buffers
  } catch (...) {
  }
}

void Exchange::Pending::finish() {
  if (!exchange_) return;
  Exchange& exchange = *exchange_;
  if (moving_.valid()) {
    exchange_ = nullptr;  // what it throws has broken the communicator already
    moving_.get();
  } else {
    exchange.communicator_.finish(exchange.deadline());
    exchange_ = nullptr;
  }
  if (!arrive_) return;
  arrive_();
  exchange.backend_.synchronize();  // the staging buffer is used again by the next call
}

void Exchange::gather_host(void* values, size_t bytes_each) {
  const std::vector<size_t> bytes(static_cast<size_t>(size()), bytes_each);
  const size_t own = bytes_each * static_cast<size_t>(rank());
  communicator_.host().all_gather(static_cast<std::byte*>(values) + own, values, bytes, deadline());
}

void Exchange::broadcast_host(void* data, size_t bytes) { communicator_.host().broadcast(data, bytes, 0, deadline()); }

void Exchange::throw_if_stopped(bool stop) {
  int32_t stopped = stop ? 1 : 0;
  broadcast_host(&stopped, sizeof stopped);
  if (stopped != 0) throw stopped_error();
}

void Exchange::agree(uint64_t fingerprint, const std::optional<EngineError>& refusal) {
  struct Vote {
    uint64_t fingerprint, refused;
  };
  std::vector<Vote> votes(static_cast<size_t>(size()));
  votes[static_cast<size_t>(rank())] = {fingerprint, refusal ? 1u : 0u};
  gather_host(votes);
  if (refusal) throw *refusal;
  for (size_t r = 0; r < votes.size(); ++r) {
    const std::string name = "rank " + std::to_string(r);
    if (votes[r].refused != 0)
      throw EngineError("invalid_argument", name + " refused its part of this call; its own error says why");
    if (votes[r].fingerprint != votes[0].fingerprint)
      throw EngineError("invalid_argument",
                        name + " was given another request or model than rank 0; give all ranks the same");
  }
}

}  // namespace longhaul
