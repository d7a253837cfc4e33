// The communicator over one connected socket per peer; connect.cpp makes it.
#pragma once

#include <memory>
#include <vector>

#include "communicator.h"
#include "socket.h"

namespace longhaul {

/// `sockets[r]` is connected to rank r; the one of `rank` itself is empty.
std::unique_ptr<Communicator> make_mesh(int rank, std::vector<Socket> sockets, std::shared_ptr<AbortFlag> abort);

}  // namespace longhaul
