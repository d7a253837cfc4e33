// Rows of a tail's piece that are not there yet: recorded steps read them.
#include <cstring>

#include "check.h"
#include "engine/tail.h"
#include "plain_backend.h"

using namespace longhaul;
using namespace longhaul::testing;

namespace {

/// Its fresh memory is what another computation left: NaN everywhere.
class UsedMemory final : public PlainBackend {
 public:
  BufferPtr allocate(size_t bytes) override {
    BufferPtr buffer = PlainBackend::allocate(bytes);
    std::memset(buffer->data(), 0xff, bytes);
    return buffer;
  }
};

}  // namespace

TEST("a tail's values are finite up to the capacity of its pieces, whatever the memory held before") {
  constexpr int64_t layers = 2, columns = 8;
  UsedMemory backend;
  Tail tail(backend, layers, columns);
  for (const int64_t rows : {5, 1, 300}) {  // two pieces
    tail.extend(rows);
    for (int64_t layer = 0; layer < layers; ++layer) {
      std::vector<Segment> segments;
      tail.append_segments(layer, segments);
      const Segment& newest = segments.back();
      CHECK(newest.capacity >= newest.kv.values.rows);
      const auto* values = static_cast<const float*>(newest.kv.values.data);
      for (int64_t i = 0; i < newest.capacity * columns; ++i) CHECK(std::isfinite(values[i]));
    }
  }
  CHECK(tail.pieces() == 2);
}
