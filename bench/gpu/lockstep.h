// Communicators for cohorts that share one GPU: one records what a rank receives, the other plays it back to the rank alone.
#pragma once

#include <memory>
#include <vector>

#include "backends/backend.h"
#include "comm/communicator.h"

namespace bench {

using namespace longhaul;

/// What a rank received, in the order of its collectives: a buffer of device memory each.
using Tape = std::vector<BufferPtr>;

/// Ranks as threads on one GPU, with a backend each: collectives of device memory, done when they return. Each call appends
/// to the rank's tape what arrived, where `tapes` has one; the tapes' memory belongs to the backend `keeper`.
std::vector<std::unique_ptr<Communicator>> connect_lockstep(std::vector<std::shared_ptr<Backend>> backends,
                                                            std::vector<Tape*> tapes, std::shared_ptr<Backend> keeper);

/// Rank `rank` of `ranks` alone: each collective copies the tape's next piece into the receiver, on a stream of its own as
/// a collective would be. `rewind` first, before each run.
class Playback : public Communicator {
 public:
  virtual void rewind() = 0;
};
std::unique_ptr<Playback> play(const Tape& tape, Backend& backend, int rank, int ranks);

}  // namespace bench
