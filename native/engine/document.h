// The two halves of a document's life on one rank: prefill makes its cache, decode answers from it.
#pragma once

#include <cstdint>
#include <vector>

#include "engine.h"
#include "exchange.h"
#include "rows.h"

namespace longhaul {

/// What prefill leaves on a rank.
struct Document {
  int64_t tokens = 0;                  // of the whole document
  int64_t rows = 0;                    // of this rank's block
  std::vector<OwnedKeyValues> cache;   // per layer, [rows, NK*D] twice, keys after RoPE
};

/// Both run on every rank together, after Exchange::agree; requests are valid. Throw CommError,
/// EngineError("stopped") on all ranks alike, and "out_of_memory" or "not_finite" on one.
Document prefill_document(const Model& model, Exchange& exchange, const PrefillRequest& request,
                          const Layout& layout, Control& control);
DecodeResult decode_question(const Model& model, Exchange& exchange, const Document& document,
                             const DecodeRequest& request, Control& control);

}  // namespace longhaul
