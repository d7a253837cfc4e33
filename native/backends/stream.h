// Work of a device that runs beside a backend's ops: collectives.
#pragma once

namespace longhaul {

/// Used by the backend's thread only.
class Stream {
 public:
  virtual ~Stream() = default;
  /// What a library of the device's vendor calls a stream (cudaStream_t); its device is made the
  /// calling thread's, which such libraries go by.
  virtual void* handle() = 0;
  /// What is enqueued here from now on starts after the backend's ops so far.
  virtual void follow() = 0;
  /// The backend's ops from now on start after what is enqueued here so far.
  virtual void precede() = 0;
  /// Whether everything enqueued here is done; never waits. Throws what it failed with.
  virtual bool done() = 0;
};

}  // namespace longhaul
