#include "choose.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "../engine/errors.h"
#include "nccl.h"

namespace longhaul {
namespace {

const char* name(CommChoice choice) {
  return choice == CommChoice::Tcp ? "tcp" : choice == CommChoice::Nccl ? "nccl" : "auto";
}

CommOffer offer_of(Backend& backend, const CommOptions& options) {
  CommOffer offer{};
  offer.choice = options.choice;
  if (options.choice == CommChoice::Tcp) return offer;
  std::string lacks;
  const std::string device = backend.device_id();
  if (device.size() != offer.device.size()) {
    lacks = "a GPU backend (it has " + backend.description() + "); give --backend cuda, or --comm tcp";
  } else {
    std::copy(device.begin(), device.end(), offer.device.begin());
    try {
      offer.version = static_cast<uint32_t>(nccl::open(options.nccl).version);
    } catch (const EngineError& error) {
      lacks = error.what();
    }
  }
  lacks.resize(std::min(lacks.size(), offer.lacks.size() - 1));
  std::copy(lacks.begin(), lacks.end(), offer.lacks.begin());
  return offer;
}

}  // namespace

std::string nccl_obstacles(std::span<const CommOffer> ranks) {
  std::string text;
  const auto add = [&](size_t rank, const std::string& what) {
    text += (text.empty() ? "rank " : "; rank ") + std::to_string(rank) + " " + what;
  };
  for (size_t r = 0; r < ranks.size(); ++r) {
    if (ranks[r].version == 0) {
      add(r, std::string("lacks ") + ranks[r].lacks.data());
      continue;
    }
    for (size_t other = 0; other < r; ++other) {
      if (ranks[other].version == 0) continue;
      if (ranks[other].device == ranks[r].device) {
        add(r, "shares its GPU with rank " + std::to_string(other) + "; give every rank a GPU of its own, or --comm tcp");
        break;
      }
      if (ranks[other].version != ranks[r].version) {
        add(r, "has NCCL " + nccl::version_text(static_cast<int>(ranks[r].version)) + " where rank " + std::to_string(other) +
                   " has " + nccl::version_text(static_cast<int>(ranks[other].version)) + "; install one version everywhere");
        break;
      }
    }
  }
  return text;
}

std::unique_ptr<Communicator> choose_communicator(std::unique_ptr<Communicator> mesh, Backend& backend,
                                                  const CommOptions& options, Deadline deadline) {
  std::vector<CommOffer> offers(static_cast<size_t>(mesh->size()));
  const auto self = static_cast<size_t>(mesh->rank());
  offers[self] = offer_of(backend, options);
  const std::vector<size_t> bytes(offers.size(), sizeof(CommOffer));
  mesh->all_gather(&offers[self], offers.data(), bytes, deadline);
  for (size_t r = 0; r < offers.size(); ++r) {
    if (offers[r].choice != offers[0].choice)
      throw EngineError("invalid_argument", "rank " + std::to_string(r) + " was told --comm " + name(offers[r].choice) +
                                                ", rank 0 --comm " + name(offers[0].choice) + "; give all ranks the same");
  }
  if (options.choice == CommChoice::Tcp) return mesh;
  const std::string obstacles = nccl_obstacles(offers);
  if (!obstacles.empty()) {
    if (options.choice == CommChoice::Auto) return mesh;
    throw EngineError("unsupported", "the communicator is 'nccl', and this cohort cannot have it: " + obstacles);
  }
  return connect_nccl(nccl::open(options.nccl), std::move(mesh), backend.open_stream(), deadline);
}

}  // namespace longhaul
