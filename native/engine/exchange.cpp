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
  staged_bytes_ = bytes;
  return staged_ = static_cast<std::byte*>(staging_->data());
}

void Exchange::gather(const void* send, void* receive, std::span<const size_t> bytes) {
  const size_t total = std::accumulate(bytes.begin(), bytes.end(), size_t{0});
  if (total == 0) return;  // known to every rank
  backend_.synchronize();  // the communicator reads outside the backend's order
  if (direct()) return communicator_.all_gather(send, receive, bytes, deadline());
  const auto self = static_cast<size_t>(rank());
  const size_t before = std::accumulate(bytes.begin(), bytes.begin() + rank(), size_t{0});
  std::byte* staging = stage(total);
  if (bytes[self] > 0) backend_.download(staging + before, send, bytes[self]);
  communicator_.all_gather(staging + before, staging, bytes, deadline());
  backend_.upload(receive, staging, total);
  backend_.synchronize();  // the staging buffer is used again by the next call
}

void Exchange::all_to_all(const void* send, std::span<const size_t> send_bytes, void* receive,
                          std::span<const size_t> receive_bytes) {
  backend_.synchronize();  // the communicator reads outside the backend's order
  if (direct()) return communicator_.all_to_all(send, send_bytes, receive, receive_bytes, deadline());
  const size_t out = std::accumulate(send_bytes.begin(), send_bytes.end(), size_t{0});
  const size_t in = std::accumulate(receive_bytes.begin(), receive_bytes.end(), size_t{0});
  std::byte* staging = stage(out + in);
  if (out > 0) backend_.download(staging, send, out);
  communicator_.all_to_all(staging, send_bytes, staging + out, receive_bytes, deadline());
  if (in > 0) backend_.upload(receive, staging + out, in);
  backend_.synchronize();  // the staging buffer is used again by the next call
}

void Exchange::broadcast(void* data, size_t bytes, int root) {
  backend_.synchronize();
  if (direct()) return communicator_.broadcast(data, bytes, root, deadline());
  std::byte* staging = stage(bytes);
  if (rank() == root) backend_.download(staging, data, bytes);
  communicator_.broadcast(staging, bytes, root, deadline());
  if (rank() != root) backend_.upload(data, staging, bytes);
  backend_.synchronize();
}

Exchange::Rotation Exchange::rotate(const KeyValues& from, const KeyValues& into) {
  const auto bytes = [&](const Matrix& m) { return static_cast<size_t>(m.rows * m.columns) * backend_.element_bytes(); };
  const size_t out = bytes(from.keys), in = bytes(into.keys);
  const std::byte* send[2] = {static_cast<std::byte*>(from.keys.data), static_cast<std::byte*>(from.values.data)};
  std::byte* receive[2] = {static_cast<std::byte*>(into.keys.data), static_cast<std::byte*>(into.values.data)};
  backend_.synchronize();  // the communicator reads outside the backend's order
  if (!direct()) {
    std::byte* staging = stage(2 * (out + in));
    for (size_t i = 0; i < 2; ++i) {
      std::byte* at = staging + i * out;
      if (out > 0) backend_.download(at, send[i], out);
      send[i] = at;
      receive[i] = staging + 2 * out + i * in;
    }
  }
  const auto move = [this, send = std::array{send[0], send[1]}, receive = std::array{receive[0], receive[1]}, out, in] {
    for (size_t i = 0; i < 2; ++i) communicator_.ring_exchange(send[i], out, receive[i], in, deadline());
  };
  Rotation rotation(*this, into);
  // A device's communicator belongs to the thread that made it, and returns before it is done.
  rotation.moving_ = std::async(communicator_.device_memory() ? std::launch::deferred : std::launch::async, move);
  return rotation;
}

Exchange::Rotation::~Rotation() {
  if (moving_.valid()) exchange_->communicator_.abort();  // then the future's end is near
}

void Exchange::Rotation::finish() {
  moving_.get();
  if (exchange_->direct()) return;
  Backend& backend = exchange_->backend_;
  const size_t in = static_cast<size_t>(into_.keys.rows * into_.keys.columns) * backend.element_bytes();
  if (in == 0) return;
  const std::byte* arrived = exchange_->staged_ + exchange_->staged_bytes_ - 2 * in;
  backend.upload(into_.keys.data, arrived, in);
  backend.upload(into_.values.data, arrived + in, in);
  backend.synchronize();  // the staging buffer is used again by the next call
}

void Exchange::gather_host(void* values, size_t bytes_each) {
  const std::vector<size_t> bytes(static_cast<size_t>(size()), bytes_each);
  const size_t own = bytes_each * static_cast<size_t>(rank()), total = bytes_each * bytes.size();
  if (!communicator_.device_memory())
    return communicator_.all_gather(static_cast<std::byte*>(values) + own, values, bytes, deadline());
  const BufferPtr buffer = allocate_bytes(backend_, total);
  backend_.upload(buffer->data(), values, total);
  backend_.synchronize();
  communicator_.all_gather(static_cast<std::byte*>(buffer->data()) + own, buffer->data(), bytes, deadline());
  backend_.download(values, buffer->data(), total);
}

void Exchange::broadcast_host(void* data, size_t bytes) {
  if (!communicator_.device_memory()) return communicator_.broadcast(data, bytes, 0, deadline());
  const BufferPtr buffer = allocate_bytes(backend_, bytes);
  backend_.upload(buffer->data(), data, bytes);
  backend_.synchronize();
  communicator_.broadcast(buffer->data(), bytes, 0, deadline());
  backend_.download(data, buffer->data(), bytes);
}

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
