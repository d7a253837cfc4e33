// safetensors files and shard indexes: what opens is readable to its last byte, the rest is an EngineError.
#include "../../native/engine_files.h"
#include "engine/errors.h"
#include "engine/safetensors.h"
#include "fuzz.h"

using namespace longhaul;
using namespace longhaul::testing;

namespace {

const std::vector<std::string> kHeaders = {
    R"({"__metadata__":{"format":"pt"},"a":{"dtype":"BF16","shape":[2,3],"data_offsets":[0,12]},"b":{"dtype":"F32","shape":[2],"data_offsets":[12,20]}})",
    R"({"a":{"dtype":"F32","shape":[],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[4,2,2],"data_offsets":[4,20]}})",
    R"({"a":{"dtype":"I64","shape":[0],"data_offsets":[0,0]},"b":{"dtype":"F16","shape":[10],"data_offsets":[0,20]}})",
};
const std::string kIndex =
    R"({"metadata":{"total_size":20},"weight_map":{"a":"x.safetensors","b":"x.safetensors"}})";
const std::vector<std::string> kWords = {
    "{", "}", "[", "]", "\"", ":", ",", "null", "-1", "1e999", "0.5", "\\u0000", "\\ud800", "\"a\":", "\"dtype\":\"F64\",",
    "\"data_offsets\":[0,9223372036854775807]", "4294967296", "18446744073709551615", "../x.safetensors",
    "/etc/passwd", "\xff\xfe", std::string(64, '['), std::string(64, '{')};

/// Touches every byte that a tensor claims: the address sanitizer sees what lies outside the file.
void read_all(const Checkpoint& checkpoint) {
  volatile unsigned sum = 0;
  for (const char* name : {"a", "b", "c"}) {
    const TensorView* tensor = checkpoint.find(name);
    if (tensor == nullptr) continue;
    for (size_t i = 0; i < tensor->bytes; ++i) sum = sum + std::to_integer<unsigned>(tensor->data[i]);
    for (const int64_t columns : tensor->shape) {
      try {
        checkpoint.tensor(name, 1, columns);
      } catch (const EngineError&) {
      }
    }
  }
}

}  // namespace

size_t fuzz::safetensors(Random& random, Clock::time_point until) {
  const TemporaryFolder folder;
  size_t tried = 0;
  for (; Clock::now() < until; ++tried) {
    const std::string& whole = random.of(kHeaders);
    const std::string header = random.one_in(8) ? whole : damaged(whole, kWords, random);
    std::string bytes = safetensors_bytes(header, std::string(20, '\1'));
    if (random.one_in(6)) {
      const uint64_t size = random.edge();
      for (size_t i = 0; i < 8; ++i) bytes[i] = static_cast<char>(size >> (8 * i));
    }
    if (random.one_in(10)) bytes = damaged(bytes, kWords, random);
    const std::string path = folder.write("x.safetensors", bytes);
    folder.write("model.safetensors.index.json", damaged(kIndex, kWords, random));
    for (const bool sharded : {false, true}) {
      const auto start = Clock::now();
      try {
        read_all(sharded ? Checkpoint::open_directory(folder.path()) : Checkpoint::open_file(path));
      } catch (const EngineError& error) {
        CHECK(error.code() == "safetensors");
      }
      CHECK(Clock::now() - start < std::chrono::seconds(10));
    }
  }
  return tried;
}
