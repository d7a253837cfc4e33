// Collectives between GPUs by NCCL, as the methods use them: seconds by bytes.
#include <cstdio>

#include "engine/exchange.h"
#include "ops.h"
#include "timing.h"
#include "ways.h"

namespace bench {

void collectives(const std::function<std::shared_ptr<Backend>(int)>& gpu, int ranks) {
  std::vector<std::shared_ptr<Backend>> backends;
  for (int r = 0; r < ranks; ++r) backends.push_back(gpu(r));
  const auto communicators = connect_nccl_ranks(backends);
  on_ranks(ranks, [&](int rank) {
    Backend& backend = *backends[static_cast<size_t>(rank)];
    Communicator& c = *communicators[static_cast<size_t>(rank)];
    const auto deadline = [] { return Clock::now() + std::chrono::seconds(60); };
    const auto time = [&](const char* name, size_t bytes, int count, const std::function<void()>& call) {
      std::vector<double> seconds;
      for (int i = 0; i < 25; ++i) {
        int32_t together = 0;
        c.host().broadcast(&together, sizeof together, 0, deadline());
        const double start = now();
        call();
        c.finish(deadline());
        if (i >= 5) seconds.push_back(now() - start);
      }
      if (rank == 0)
        std::printf("{\"collective\": \"%s\", \"ranks\": %d, \"bytes\": %zu, \"seconds\": %.9f}\n", name, ranks, bytes, median(seconds) / count), std::fflush(stdout);
    };
    // In a recorded step of decoding, from one gather to the next.
    for (const size_t bytes : {size_t{8} << 10, size_t{16} << 10}) {
      constexpr int kTogether = 64;
      const auto all = static_cast<size_t>(ranks);
      const BufferPtr data = backend.allocate(all * bytes);
      Exchange exchange(c, backend, std::chrono::seconds(60));
      const std::vector<size_t> each(all, bytes);
      const std::byte* own = static_cast<std::byte*>(data->data()) + static_cast<size_t>(rank) * bytes;
      const auto recording = backend.record({}, [&] {
        for (int i = 0; i < kTogether; ++i) exchange.gather_ahead(own, data->data(), each);
      });
      exchange.drain();
      time("recorded_all_gather", bytes, kTogether, [&] {
        backend.replay(*recording, {});
        exchange.drain();
      });
    }
    for (const size_t bytes : {size_t{16} << 10, size_t{1} << 20, size_t{8} << 20, size_t{32} << 20, size_t{256} << 20}) {
      const auto all = static_cast<size_t>(ranks);
      const BufferPtr from = backend.allocate(all * bytes), to = backend.allocate(all * bytes);
      const std::vector<size_t> each(all, bytes);
      time("all_gather", bytes, 1, [&] { c.all_gather(from->data(), to->data(), each, deadline()); });
      time("all_to_all", bytes, 1, [&] { c.all_to_all(from->data(), each, to->data(), each, deadline()); });
      time("ring_exchange", bytes, 1, [&] { c.ring_exchange(from->data(), bytes, to->data(), bytes, deadline()); });
    }
  });
}

}  // namespace bench
