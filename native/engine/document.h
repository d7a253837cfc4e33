// The two halves of a document's life on one rank: prefill makes its cache, decode answers from it.
#pragma once

#include <cstdint>
#include <functional>
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

/// Takes all the memory of a prefill, and exchanges nothing: the prefill is what is returned, once. Its arguments
/// must outlive it. Throws EngineError("out_of_memory").
std::function<Document()> allocate_prefill(const Model& model, Exchange& exchange, const PrefillRequest& request,
                                           const Layout& layout, Control& control);
/// It and the prefill run on every rank together, after Exchange::agree; requests are valid. Throw CommError,
/// EngineError("stopped") on all ranks alike, and "out_of_memory" or "not_finite" on one.
DecodeResult decode_question(const Model& model, Exchange& exchange, const Document& document,
                             const DecodeRequest& request, Control& control);

}  // namespace longhaul
