// Ranks as threads over NCCL's communicator, with the double in NCCL's place.
#pragma once

#include <dlfcn.h>

#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "backends/load/cuda_library.h"
#include "comm/nccl.h"
#include "../comm_mesh.h"
#include "double.h"
#include "../plain_backend.h"

namespace longhaul::testing {

inline std::string double_path() { return own_folder() + "/nccl-double.so"; }

inline const nccl::Library& double_library() { return nccl::open(double_path()); }

inline DoubleControl& double_control() {
  double_library();
  void* library = ::dlopen(double_path().c_str(), RTLD_NOW | RTLD_NOLOAD);
  return *static_cast<DoubleControl*>(::dlsym(library, "nccl_double"));
}

class TestStream final : public Stream {
 public:
  void* handle() override { return &stream_; }
  void follow() override {}
  void precede() override {  // this device's ops are over when they return
    while (!stream_.idle()) std::this_thread::yield();
  }
  bool done() override { return stream_.idle(); }

 private:
  DoubleStream stream_;
};

/// Memory that counts as a device's. Its ops are over when they return, so that collectives follow them by themselves.
inline std::shared_ptr<Backend> plain_device() { return std::make_shared<PlainBackend>(true); }

inline std::unique_ptr<Communicator> connect_double(comm_test::Listeners& listeners, int rank) {
  return connect_nccl(double_library(), listeners.connect(rank), std::make_unique<TestStream>(), comm_test::soon());
}

inline std::vector<std::unique_ptr<Communicator>> connect_doubles(int ranks) {
  comm_test::Listeners listeners(ranks);
  std::vector<std::unique_ptr<Communicator>> all(static_cast<size_t>(ranks));
  comm_test::on_threads(ranks, [&](int r) { all[static_cast<size_t>(r)] = connect_double(listeners, r); });
  return all;
}

}  // namespace longhaul::testing
