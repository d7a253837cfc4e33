#include "check.h"
#include "engine/errors.h"
#include "engine/layout.h"
#include "engine_files.h"

using namespace longhaul;
using namespace longhaul::testing;

namespace {

LayoutRequest apb(int ranks, int64_t document, int64_t query, int64_t anchor, int64_t passing) {
  LayoutRequest request;
  request.method = Method::Apb;
  request.ranks = ranks;
  request.document_tokens = document;
  request.query_tokens = query;
  request.anchor_length = anchor;
  request.passing_length = passing;
  return request;
}
std::string refusal(const LayoutRequest& request) {
  return CHECK_THROWS(EngineError, "invalid_argument", plan_layout(request));
}

std::vector<int64_t> lengths(const Layout& layout) {
  std::vector<int64_t> out;
  for (const auto& block : layout.blocks) out.push_back(block.end - block.start);
  return out;
}

}  // namespace

TEST("layout splits evenly, the first ranks taking the rest") {
  CHECK((lengths(plan_layout(apb(4, 10, 1, 0, 0))) == std::vector<int64_t>{3, 3, 2, 2}));
  CHECK((lengths(plan_layout(apb(4, 2, 1, 0, 0))) == std::vector<int64_t>{1, 1, 0, 0}));
  CHECK((lengths(plan_layout(apb(3, 0, 1, 0, 0))) == std::vector<int64_t>{0, 0, 0}));
}

TEST("layout of apb: the anchor holds the query, rank 0 passes on nothing that it holds") {
  LayoutRequest request = apb(4, 260, 9, 43, 13);
  request.blocks = {40, 95, 1, 124};
  const Layout layout = plan_layout(request);
  CHECK(layout.anchor_document == 34 && layout.anchor_query_at == 16 && layout.anchor_length == 43);
  CHECK((layout.passing == std::vector<int64_t>{6, 13, 1, 0}));
  const Layout tiny = plan_layout(apb(8, 5, 6, 30, 4));  // the document is shorter than the anchor
  CHECK(tiny.anchor_document == 5 && tiny.anchor_query_at == 5 && tiny.anchor_length == 11);
  CHECK((tiny.passing == std::vector<int64_t>{0, 1, 1, 1, 1, 0, 0, 0}));
}

TEST("layout of apb without a query: the anchor is the document's start, of any length") {
  const Layout layout = plan_layout(apb(3, 160, 0, 40, 15));
  CHECK(layout.anchor_document == 40 && layout.anchor_length == 40);
  CHECK((layout.passing == std::vector<int64_t>{14, 15, 0}));
  CHECK(plan_layout(apb(3, 160, 0, 5, 15)).anchor_length == 5);
}

TEST("layout without ranks to talk to has no anchor and passes nothing") {
  const Layout one = plan_layout(apb(1, 140, 7, 40, 12));
  CHECK(one.anchor_length == 0 && one.passing == std::vector<int64_t>{0});
  const Layout none = plan_layout(apb(3, 160, 8, 0, 15));
  CHECK(none.anchor_length == 0 && (none.passing == std::vector<int64_t>{15, 15, 0}));
}

TEST("layout of star defaults to an anchor of block 0's length") {
  LayoutRequest request = apb(3, 200, 8, 0, 0);
  request.method = Method::Star;
  request.anchor_length.reset();
  CHECK(plan_layout(request).anchor_length == 67);
  request.anchor_length = 500;
  CHECK(plan_layout(request).anchor_length == 200);
}

TEST("layout names what is wrong") {
  LayoutRequest blocks = apb(2, 10, 1, 40, 1);
  blocks.blocks = {4, 7};
  CHECK_CONTAINS(refusal(blocks), "blocks[1] is 7; 6 document tokens are left");
  blocks.blocks = {4, 5};
  CHECK_CONTAINS(refusal(blocks), "blocks' sum is 9");
  blocks.blocks = {10};
  CHECK_CONTAINS(refusal(blocks), "blocks' count is 1");
  blocks.blocks = {11, -1};
  CHECK_CONTAINS(refusal(blocks), "blocks[0] is 11");
  CHECK_CONTAINS(refusal(apb(0, 10, 1, 40, 1)), "ranks is 0");
  CHECK_CONTAINS(refusal(apb(2, -1, 1, 40, 1)), "document_tokens is -1");
  CHECK_CONTAINS(refusal(apb(2, 10, 1, 40, -1)), "passing_length is -1");
  CHECK_CONTAINS(refusal(apb(2, 10, 25, 40, 1)), "anchor_length is 40; it must hold query_position, 16");
  LayoutRequest unset = apb(2, 10, 1, 40, 1);
  unset.anchor_length.reset();
  CHECK_CONTAINS(refusal(unset), "anchor_length is not set");
  CHECK(plan_layout(apb(2, 100, 24, 40, 1)).anchor_length == 40);  // 16 + 24 just fit
}
