// The benchmarks of bench-cuda, each a subcommand.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "backends/backend.h"

namespace bench {

/// Ops of rows and of selection, at the shapes of Llama-3.1-8B.
void ops(longhaul::Backend& backend);

/// Matrix products at the same shapes. Each batch waits for its turn: a line on stdin after the line "turn" on stdout.
void products(longhaul::Backend& backend);

/// Exact prefill of `tokens` tokens by a model of Llama-3.1-8B's shapes with random weights, then `answer` decoded tokens.
void prefill(const std::shared_ptr<longhaul::Backend>& backend, int64_t tokens, int64_t answer);

/// All methods on `ranks` GPUs by NCCL and `full` on one, at the same shapes with retaining heads: a JSON line each with
/// the seconds of three prefills, of a decoded token, and of each rank's phases. `only`: these methods, by name, with commas.
void methods(const std::function<std::shared_ptr<longhaul::Backend>(int rank)>& gpu, int64_t tokens, int ranks, const std::string& only);

/// The collectives of `ranks` GPUs by NCCL, bytes from or to each rank: a JSON line each with the median seconds.
void collectives(const std::function<std::shared_ptr<longhaul::Backend>(int rank)>& gpu, int ranks);

/// The methods of `methods` with every rank simulated on one GPU: a JSON line each with the seconds, communication aside,
/// of the ranks that may be the slowest, and the bytes that each would need beside the weights.
void virtual_ranks(const std::function<std::shared_ptr<longhaul::Backend>()>& gpu, int64_t tokens, int ranks, const std::string& only);

/// Loading the checkpoint in `directory`, as it lies on the disk.
void load(const std::shared_ptr<longhaul::Backend>& backend, const std::string& directory);

/// Logits [steps, V] float32 into `out`: `ids` (uint32) holds the document, the query, then the tokens that are fed.
void logits(const std::shared_ptr<longhaul::Backend>& backend, const std::string& directory, const std::string& ids,
            int64_t document, int64_t query, const std::string& out);

/// Answers of the model in `directory` to the documents in `path`, a JSON line each: tokens, and where float32 on the CPU
/// was asked for as well its tokens, the errors of bfloat16's logits and the share of common choices. A rank is a thread.
void answers(const std::string& directory, const std::string& path, const std::function<std::shared_ptr<longhaul::Backend>()>& gpu);

}  // namespace bench
