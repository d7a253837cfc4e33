// How a document is laid out over the ranks of a cohort: blocks, anchor, passing lengths.
// Pure arithmetic, shared by the engine and (through the addon) by the workers, which fetch only
// the tokens that their rank needs.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

namespace longhaul {

enum class Method { Full, Star, Apb };

struct LayoutRequest {
  Method method = Method::Full;
  int ranks = 1;
  int64_t document_tokens = 0;
  int64_t query_tokens = 0;               // of all the questions answered from one prefill
  std::optional<int64_t> anchor_length;   // l_a; unset: star uses block 0's length, apb is an error
  int64_t passing_length = 0;             // l_p
  int64_t query_position = 16;            // document tokens before the query in the anchor
  std::vector<int64_t> blocks;            // one length per rank, or empty for even blocks
};

struct Layout {
  struct Block {
    int64_t start = 0, end = 0;  // document positions [start, end)
  };
  std::vector<Block> blocks;      // one per rank; may be empty blocks
  int64_t anchor_document = 0;    // `held`: how many leading document tokens the anchor holds
  int64_t anchor_query_at = 0;    // where the query is inserted in the anchor (apb)
  int64_t anchor_length = 0;      // rows of the anchor of ranks > 0, query included; 0 = no anchor
  /// Rows that rank r passes on per KV head (apb; 0 for the last rank), in rank order.
  std::vector<int64_t> passing;
};

/// Throws EngineError("invalid_argument") naming the field: blocks that do not add up, an anchor
/// too short for query_position and the query, negative lengths, ranks < 1.
Layout plan_layout(const LayoutRequest& request);

}  // namespace longhaul
