// What a request must fulfil before the ranks start, and a fingerprint of what they must agree on.
#pragma once

#include <cstdint>
#include <optional>

#include "engine.h"
#include "model.h"

namespace longhaul {

/// Facts that every rank is given alike; throws EngineError on all ranks before any collective:
/// "invalid_argument", "too_long" for a document beyond the model's positions.
void check_prefill(const Model& model, int ranks, const PrefillRequest& request, const Layout& layout);
void check_decode(const Model& model, int64_t document_tokens, const DecodeRequest& request);

/// Facts of this rank alone (its block, its anchor's tokens), for Exchange::agree.
std::optional<EngineError> refuse_prefill(const Model& model, int rank, const PrefillRequest& request, const Layout& layout);

/// Equal on ranks whose requests, models and element types fit together.
uint64_t fingerprint(const Model& model, const PrefillRequest& request, const Layout& layout);
uint64_t fingerprint(const Model& model, int64_t document_tokens, const DecodeRequest& request);

}  // namespace longhaul
