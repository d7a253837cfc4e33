// Which communicator a cohort uses: every rank says what it can, and all come to the same choice.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "../backends/backend.h"
#include "communicator.h"

namespace longhaul {

/// Auto: nccl where every rank can, tcp otherwise. One that is named is never replaced.
enum class CommChoice : uint32_t { Tcp, Nccl, Auto };

/// What one rank tells all others, as it lies in memory.
struct CommOffer {
  CommChoice choice;
  uint32_t version;                // of its NCCL; 0: it cannot, and `lacks` says what is missing
  std::array<char, 16> device;     // Backend::device_id()
  std::array<char, 488> lacks;     // text, ends with 0; cut where it is longer
};

/// Why these ranks cannot use NCCL together, each reason with its rank and remedy; empty: they can.
std::string nccl_obstacles(std::span<const CommOffer> ranks);

struct CommOptions {
  CommChoice choice = CommChoice::Tcp;
  std::string nccl;  // path of libnccl.so.2; empty: searched for
};

/// Every rank of `mesh` calls it together; gives the mesh back, or NCCL's communicator around it.
/// Throws EngineError("unsupported") on every rank when nccl was named and cannot be had,
/// EngineError("invalid_argument") when ranks were told different choices; CommError.
std::unique_ptr<Communicator> choose_communicator(std::unique_ptr<Communicator> mesh, Backend& backend,
                                                  const CommOptions& options, Deadline deadline);

}  // namespace longhaul
