// The communicator of one rank alone.
#include <atomic>
#include <cstring>

#include "tcp.h"

namespace longhaul {
namespace {

class Solo final : public Communicator {
 public:
  int rank() const override { return 0; }
  int size() const override { return 1; }
  std::string kind() const override { return "solo"; }
  bool device_memory() const override { return false; }

  void all_gather(const void* send, void* receive, std::span<const size_t> bytes, Deadline) override {
    check(bytes.size() == 1);
    copy(receive, send, bytes[0]);
  }

  void broadcast(void*, size_t, int root, Deadline) override { check(root == 0); }

  void all_to_all(const void* send, std::span<const size_t> send_bytes, void* receive,
                  std::span<const size_t> receive_bytes, Deadline) override {
    check(send_bytes.size() == 1 && receive_bytes.size() == 1 && send_bytes[0] == receive_bytes[0]);
    copy(receive, send, send_bytes[0]);
  }

  void ring_exchange(const void* send, size_t send_bytes, void* receive, size_t receive_bytes,
                     Deadline) override {
    check(send_bytes == receive_bytes);
    copy(receive, send, send_bytes);
  }

  void abort() noexcept override { aborted_ = true; }

 private:
  void check(bool matching) const {
    if (aborted_) throw CommError("aborted", "the communicator was aborted; connect again");
    if (!matching) throw CommError("protocol", "a collective of one rank has sizes that do not match", 0);
  }

  static void copy(void* to, const void* from, size_t bytes) {
    if (bytes > 0 && to != from) std::memmove(to, from, bytes);
  }

  std::atomic<bool> aborted_{false};
};

}  // namespace

std::unique_ptr<Communicator> make_solo() { return std::make_unique<Solo>(); }

}  // namespace longhaul
