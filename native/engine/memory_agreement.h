// Whether a document has room on all ranks, known to all of them before any of them begins.
#pragma once

#include <cstdint>
#include <functional>
#include <span>

#include "document.h"

namespace longhaul {

/// Code of an error that all ranks throw alike; the communicator lives.
inline constexpr const char* kTooLongForMemory = "too_long_for_memory";

/// Bytes that a rank allocates for a prefill and the cache it leaves; less what a trace adds.
size_t prefill_bytes(const Model& model, const PrefillRequest& request, const Layout& layout, size_t rank);

/// The longest document, in even blocks, for which every rank's part has room there (bytes by rank); below the
/// request's. 0: none has.
int64_t longest_document(const Model& model, const PrefillRequest& request, std::span<const uint64_t> room);

/// allocate_prefill on every rank together. Where one has no room, all of them throw EngineError("too_long_for_memory"),
/// which names the rank, what it lacks, and the longest document that fits.
std::function<Document()> agree_on_memory(const Model& model, Exchange& exchange, const PrefillRequest& request,
                                          const Layout& layout, Control& control);

}  // namespace longhaul
