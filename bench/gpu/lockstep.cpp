#include "lockstep.h"

#include <cuda_runtime_api.h>

#include <cstring>
#include <numeric>
#include <stdexcept>
#include <thread>

#include "thread_communicator.h"

namespace bench {
namespace {

size_t sum(std::span<const size_t> sizes) { return std::accumulate(sizes.begin(), sizes.end(), size_t{0}); }

/// The threads' communicator, with device memory in the place of host memory.
class Lockstep final : public testing::ThreadCommunicator {
 public:
  Lockstep(const std::shared_ptr<testing::ThreadHub>& hub, std::unique_ptr<Communicator> host, int rank,
           std::shared_ptr<Backend> backend, Tape* tape, std::shared_ptr<Backend> keeper)
      : ThreadCommunicator(hub, rank), host_(std::move(host)), backend_(std::move(backend)), tape_(tape), keeper_(std::move(keeper)) {}

  bool device_memory() const override { return true; }
  Communicator& host() override { return *host_; }

  void all_gather(const void* send, void* receive, std::span<const size_t> bytes, Deadline deadline) override {
    backend_->synchronize();
    exchange(send, bytes, deadline, [&] {
      auto* to = static_cast<std::byte*>(receive);
      for (size_t r = 0; r < bytes.size(); to += bytes[r], ++r)
        if (to != peer(r)) backend_->copy(to, peer(r), bytes[r]);
      keep(receive, sum(bytes));
    });
  }
  void broadcast(void*, size_t, int, Deadline) override { throw std::logic_error("no method broadcasts device memory"); }
  void all_to_all(const void* send, std::span<const size_t> send_bytes, void* receive, std::span<const size_t> receive_bytes,
                  Deadline deadline) override {
    backend_->synchronize();
    exchange(send, send_bytes, deadline, [&] {
      auto* to = static_cast<std::byte*>(receive);
      for (size_t r = 0; r < receive_bytes.size(); to += receive_bytes[r], ++r)
        backend_->copy(to, peer(r) + sum(sizes_of(r).first(static_cast<size_t>(rank()))), receive_bytes[r]);
      keep(receive, sum(receive_bytes));
    });
  }
  void ring_exchange(const void* send, size_t, void* receive, size_t receive_bytes, Deadline deadline) override {
    backend_->synchronize();
    exchange(send, {}, deadline, [&] {
      backend_->copy(receive, peer(static_cast<size_t>((rank() + size() - 1) % size())), receive_bytes);
      keep(receive, receive_bytes);
    });
  }

 private:
  /// What arrived is there for good when this returns.
  void keep(const void* received, size_t bytes) {
    if (tape_) {
      tape_->push_back(keeper_->allocate(bytes));
      keeper_->synchronize();
      backend_->copy(tape_->back()->data(), received, bytes);
    }
    backend_->synchronize();
  }

  const std::unique_ptr<Communicator> host_;
  const std::shared_ptr<Backend> backend_;
  Tape* const tape_;
  const std::shared_ptr<Backend> keeper_;
};

/// Where every rank says what we say.
class Echo final : public Communicator {
 public:
  Echo(int rank, int ranks) : rank_(rank), ranks_(ranks) {}
  int rank() const override { return rank_; }
  int size() const override { return ranks_; }
  std::string kind() const override { return "echo"; }
  bool device_memory() const override { return false; }
  void all_gather(const void* send, void* receive, std::span<const size_t> bytes, Deadline) override {
    auto* to = static_cast<std::byte*>(receive);
    for (size_t r = 0; r < bytes.size(); to += bytes[r], ++r)
      if (to != send) std::memcpy(to, send, bytes[r]);
  }
  void broadcast(void*, size_t, int, Deadline) override {}
  void all_to_all(const void*, std::span<const size_t>, void*, std::span<const size_t>, Deadline) override { refuse(); }
  void ring_exchange(const void*, size_t, void*, size_t, Deadline) override { refuse(); }
  void abort() noexcept override {}

 private:
  [[noreturn]] static void refuse() { throw std::logic_error("an engine moves no host memory so"); }
  int rank_, ranks_;
};

class Player final : public Playback {
 public:
  Player(const Tape& tape, Backend& backend, int rank, int ranks) : tape_(tape), stream_(backend.open_stream()), host_(rank, ranks) {}

  void rewind() override { next_ = 0; }
  int rank() const override { return host_.rank(); }
  int size() const override { return host_.size(); }
  std::string kind() const override { return "playback"; }
  bool device_memory() const override { return true; }
  Communicator& host() override { return host_; }
  void precede() override { stream_->precede(); }
  void finish(Deadline) override {
    while (!stream_->done()) std::this_thread::yield();
  }

  void all_gather(const void*, void* receive, std::span<const size_t> bytes, Deadline) override { arrive(receive, sum(bytes)); }
  void all_to_all(const void*, std::span<const size_t>, void* receive, std::span<const size_t> bytes, Deadline) override {
    arrive(receive, sum(bytes));
  }
  void ring_exchange(const void*, size_t, void* receive, size_t bytes, Deadline) override { arrive(receive, bytes); }
  void broadcast(void*, size_t, int, Deadline) override { throw std::logic_error("no method broadcasts device memory"); }
  void abort() noexcept override {}

 private:
  void arrive(void* to, size_t bytes) {
    const BufferPtr& piece = tape_.at(next_++);
    if (piece->bytes() < bytes) throw std::logic_error("the tape is of another run");
    auto* stream = static_cast<cudaStream_t>(stream_->handle());
    stream_->follow();
    if (cudaMemcpyAsync(to, piece->data(), bytes, cudaMemcpyDeviceToDevice, stream) != cudaSuccess)
      throw std::runtime_error("copying from the tape failed");
  }

  const Tape& tape_;
  const std::unique_ptr<Stream> stream_;
  Echo host_;
  size_t next_ = 0;
};

}  // namespace

std::vector<std::unique_ptr<Communicator>> connect_lockstep(std::vector<std::shared_ptr<Backend>> backends,
                                                            std::vector<Tape*> tapes, std::shared_ptr<Backend> keeper) {
  const auto ranks = static_cast<int>(backends.size());
  auto hosts = testing::connect_threads(ranks);
  auto hub = std::make_shared<testing::ThreadHub>(ranks);
  std::vector<std::unique_ptr<Communicator>> all;
  for (size_t r = 0; r < backends.size(); ++r)
    all.push_back(std::make_unique<Lockstep>(hub, std::move(hosts[r]), static_cast<int>(r), backends[r], tapes[r], keeper));
  return all;
}

std::unique_ptr<Playback> play(const Tape& tape, Backend& backend, int rank, int ranks) {
  return std::make_unique<Player>(tape, backend, rank, ranks);
}

}  // namespace bench
