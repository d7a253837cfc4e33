// How a document is laid out over the ranks of a cohort: blocks, anchor, passing lengths.
// Pure arithmetic, shared by the engine and (through the addon) by the workers, which fetch only
// the tokens that their rank needs.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

namespace longhaul {

enum class Method { Full, Star, Apb, Ring, Ulysses };

/// How ring attention lays the document out. Zigzag: 2 * ranks chunks, of which rank r holds the
/// r-th and its mirror, the r-th from the end; so all ranks have the same causal work.
enum class RingLayout { Contiguous, Zigzag };

struct LayoutRequest {
  Method method = Method::Full;
  int ranks = 1;
  int64_t document_tokens = 0;
  int64_t query_tokens = 0;               // of the questions that the anchor carries; 0: it holds the document's start alone
  std::optional<int64_t> anchor_length;   // l_a; unset: star uses block 0's length, apb is an error
  int64_t passing_length = 0;             // l_p
  int64_t query_position = 16;            // document tokens before the query in the anchor
  std::vector<int64_t> blocks;            // one length per rank, or empty for even blocks
  RingLayout ring_layout = RingLayout::Contiguous;  // ring only
};

struct Layout {
  struct Block {
    int64_t start = 0, end = 0;  // document positions [start, end)
  };
  std::vector<Block> blocks;      // one per rank; may be empty blocks
  std::vector<Block> mirrors;     // ring zigzag: each rank's second piece; empty pieces otherwise
  int64_t anchor_document = 0;    // `held`: how many leading document tokens the anchor holds
  int64_t anchor_query_at = 0;    // where the query is inserted in the anchor (apb)
  int64_t anchor_length = 0;      // rows of the anchor of ranks > 0, query included; 0 = no anchor
  /// Rows that rank r passes on per KV head (apb; 0 for the last rank), in rank order.
  std::vector<int64_t> passing;

  /// Document tokens that a rank holds, block and mirror.
  int64_t rows(size_t rank) const {
    return blocks[rank].end - blocks[rank].start + mirrors[rank].end - mirrors[rank].start;
  }
};

/// Throws EngineError("invalid_argument") naming the field: blocks that do not add up, an anchor
/// too short for query_position and the query, negative lengths, ranks < 1, zigzag with another
/// method or with `blocks`.
Layout plan_layout(const LayoutRequest& request);

}  // namespace longhaul
