// Collectives between GPUs by NCCL, each rank with a GPU of its own.
#pragma once

#include <memory>

#include "../backends/stream.h"
#include "communicator.h"
#include "nccl_library.h"

namespace longhaul {

/// Joins the ranks that `mesh` connects, which stays: it carries host memory, and its connections
/// tell at once when a rank dies, which NCCL itself may never notice. Every rank calls it together,
/// on the thread that will use the communicator. Collectives are enqueued on `stream`, behind the
/// ops of its backend.
///
/// Throws CommError: "deadline", "aborted", "peer_lost", or "protocol" with NCCL's own words.
std::unique_ptr<Communicator> connect_nccl(const nccl::Library& library, std::unique_ptr<Communicator> mesh,
                                           std::unique_ptr<Stream> stream, Deadline deadline);

}  // namespace longhaul
