// NCCL between GPUs: needs two, and says so where there are fewer. Ranks are threads with a GPU each.
#include <array>
#include <cstdio>

#include "engine/errors.h"
#include "nccl_ranks.h"

using namespace longhaul;
using namespace longhaul::testing;
using namespace comm_test;

namespace {

/// `bytes` of a pattern that depends on the rank.
std::vector<unsigned char> pattern(int rank, size_t bytes) {
  std::vector<unsigned char> out(bytes);
  for (size_t i = 0; i < bytes; ++i) out[i] = static_cast<unsigned char>(i * 7 + i / 251 + static_cast<size_t>(rank) * 91 + 1);
  return out;
}

/// One collective on host memory over tcp and on device memory by NCCL: the same bytes must come out.
void same(Communicator& c, Backend& backend, const std::vector<unsigned char>& send, size_t bytes,
          const std::function<void(Communicator&, const void*, void*)>& call) {
  std::vector<unsigned char> want(bytes, 0xee), got(bytes, 0xdd);
  call(c.host(), send.data(), want.data());
  const BufferPtr from = backend.allocate(send.size() + 1), to = backend.allocate(bytes + 1);
  backend.upload(from->data(), send.data(), send.size());
  backend.upload(to->data(), got.data(), bytes);
  call(c, from->data(), to->data());  // follows the uploads by itself
  c.finish(soon());
  backend.download(got.data(), to->data(), bytes);
  CHECK(want == got);
}

std::string failure(const std::function<void()>& body) {
  try {
    body();
  } catch (const CommError& error) {
    return error.code();
  }
  return "nothing thrown";
}

}  // namespace

TEST("gpu nccl: every collective gives what tcp gives, from a byte to 64 MiB") {
  if (!two_gpus()) return;
  Listeners listeners(2);
  on_threads(2, [&](int rank) {
    const auto backend = gpu(rank);
    const auto c = connect_gpu(listeners, rank, *backend);
    CHECK(c->kind() == "nccl");
    for (const size_t n : {size_t{1}, size_t{4097}, size_t{64} << 20}) {
      for (const std::vector<size_t>& sizes : {std::vector<size_t>{n, n}, {n, 0}, {n, n / 2 + 3}}) {
        const auto own = pattern(rank, sizes[static_cast<size_t>(rank)]);
        same(*c, *backend, own, sizes[0] + sizes[1],
             [&](Communicator& k, const void* from, void* to) { k.all_gather(from, to, sizes, soon()); });
        same(*c, *backend, pattern(rank, 2 * own.size()), sizes[0] + sizes[1], [&](Communicator& k, const void* from, void* to) {
          k.all_to_all(from, std::vector<size_t>(2, own.size()), to, sizes, soon());
        });
        const size_t arriving = sizes[static_cast<size_t>(1 - rank)];
        same(*c, *backend, own, arriving, [&](Communicator& k, const void* from, void* to) {
          k.ring_exchange(from, own.size(), to, arriving, soon());
        });
      }
    }
  });
}

TEST("gpu nccl: ranks that share a GPU are refused, and auto gives them tcp") {
  const auto kinds = [](CommChoice choice) {
    std::array<std::string, 2> out;
    Listeners listeners(2);
    on_threads(2, [&](int rank) {
      const auto backend = gpu(0);
      try {
        out[static_cast<size_t>(rank)] = connect_gpu(listeners, rank, *backend, choice)->kind();
      } catch (const EngineError& error) {
        out[static_cast<size_t>(rank)] = error.what();
      }
    });
    return out;
  };
  CHECK(kinds(CommChoice::Auto) == (std::array<std::string, 2>{"tcp", "tcp"}));
  for (const std::string& refused : kinds(CommChoice::Nccl)) CHECK(refused.find("rank 1 shares its GPU with rank 0") != std::string::npos);
}

TEST("gpu nccl: an abort frees both GPUs, and a new cohort works at once") {
  if (!two_gpus()) return;
  const std::array<std::shared_ptr<Backend>, 2> backends{gpu(0), gpu(1)};
  for (int round = 0; round < 2; ++round) {
    Listeners listeners(2);
    on_threads(2, [&](int rank) {
      Backend& backend = *backends[static_cast<size_t>(rank)];
      const auto c = connect_gpu(listeners, rank, backend);
      const BufferPtr data = backend.allocate(1 << 20);
      c->broadcast(data->data(), 1 << 20, 0, soon());
      c->finish(soon());
      if (rank == 1) return c->abort();
      c->broadcast(data->data(), 1 << 20, 1, soon());  // which rank 1 never sends
      CHECK(failure([&] { c->finish(soon()); }) == "peer_lost");
      backend.synchronize();
    });
  }
}
