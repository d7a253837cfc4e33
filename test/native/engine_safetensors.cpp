#include "check.h"
#include "engine/errors.h"
#include "engine/safetensors.h"
#include "engine_files.h"

using namespace longhaul;
using namespace longhaul::testing;

namespace {

/// Padded with spaces as writers do, so that the data is aligned to 8 bytes.
std::string padded(std::string header) {
  header.resize((header.size() + 7) / 8 * 8, ' ');
  return header;
}

const std::string kHeader = padded(
    R"({"__metadata__":{"format":"pt"},"a":{"dtype":"BF16","shape":[2,3],"data_offsets":[0,12]},"b":{"dtype":"F32","shape":[2],"data_offsets":[12,20]}})");
const std::string kData(20, '\1');

std::string refusal(const std::string& bytes) {
  const TemporaryFolder folder;
  const std::string path = folder.write("x.safetensors", bytes);
  const std::string message = CHECK_THROWS(EngineError, "safetensors", Checkpoint::open_file(path));
  CHECK_CONTAINS(message, path);
  return message;
}

/// The header with `from` replaced.
std::string refusal(const std::string& from, const std::string& to) {
  std::string header = kHeader;
  header.replace(header.find(from), from.size(), to);
  return refusal(safetensors_bytes(header, kData));
}

}  // namespace

TEST("safetensors hands out tensors in place") {
  const TemporaryFolder folder;
  const Checkpoint file = Checkpoint::open_file(folder.write("x.safetensors", safetensors_bytes(kHeader, kData)));
  CHECK(file.find("a")->bytes == 12 && !file.find("__metadata__") && !file.find("c"));
  const HostTensor a = file.tensor("a", 2, 3);
  CHECK(a.dtype == DType::BF16 && a.rows == 2 && a.columns == 3 && *static_cast<const char*>(a.data) == 1);
}

TEST("safetensors names file, tensor and both shapes of a tensor that does not fit") {
  const TemporaryFolder folder;
  const std::string path = folder.write(
      "x.safetensors",
      safetensors_bytes(
          padded(
              R"({"a":{"dtype":"BF16","shape":[2,3],"data_offsets":[0,12]},"i":{"dtype":"I32","shape":[2],"data_offsets":[12,20]}})"),
          kData));
  const Checkpoint file = Checkpoint::open_file(path);
  const std::string shape = CHECK_THROWS(EngineError, "safetensors", file.tensor("a", 3, 2));
  CHECK_CONTAINS(shape, path + ": tensor 'a': has shape [2, 3], the model needs [3, 2]");
  CHECK_CONTAINS((CHECK_THROWS(EngineError, "safetensors", file.tensor("c", 1, 7))),
                 "tensor 'c': is missing; the model needs it with shape [7]");
  CHECK_CONTAINS((CHECK_THROWS(EngineError, "safetensors", file.tensor("i", 1, 2))), "tensor 'i': is I32");
}

TEST("safetensors refuses a misaligned tensor when it is used as a weight") {
  const TemporaryFolder folder;
  std::string header = kHeader;
  while ((8 + header.size() + 12) % 4 != 1) header += ' ';
  const Checkpoint file = Checkpoint::open_file(folder.write("x.safetensors", safetensors_bytes(header, kData)));
  CHECK_CONTAINS((CHECK_THROWS(EngineError, "safetensors", file.tensor("b", 1, 2))), "not aligned");
}

TEST("safetensors refuses malformed headers") {
  CHECK_CONTAINS(refusal("\"b\":", "\"a\":"), "appears twice");
  CHECK_CONTAINS(refusal("[12,20]", "[8,16]"), "tensor 'b': its data overlaps");
  CHECK_CONTAINS(refusal("[12,20]", "[12,24]"), "truncated");
  CHECK_CONTAINS(refusal("[12,20]", "[20,12]"), "no range");
  CHECK_CONTAINS(refusal("[12,20]", "[-8,0]"), "no range");
  CHECK_CONTAINS(refusal("[12,20]", "[12]"), "two data_offsets");
  CHECK_CONTAINS(refusal("[12,20]", "[12,9223372036854775807]"), "truncated");
  CHECK_CONTAINS(refusal("[2,3]", "[2,4]"), "needs 16 bytes, data_offsets hold 12");
  CHECK_CONTAINS(refusal("[2,3]", "[4294967296,4294967296]"), "no shape that memory can hold");
  CHECK_CONTAINS(refusal("[2,3]", "[-2,-3]"), "no shape that memory can hold");
  CHECK_CONTAINS(refusal("[2,3]", "[2,3.0]"), "which is no size");
  CHECK_CONTAINS(refusal("BF16", "B16"), "dtype 'B16' is not known");
  CHECK_CONTAINS(refusal("\"shape\"", "\"shap\""), "needs a dtype, a shape");
  CHECK_CONTAINS(refusal("\"b\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[12,20]}", "\"b\":3"),
                 "needs a dtype");
  CHECK_CONTAINS(refusal(safetensors_bytes(kHeader, kData + "x")), "1 bytes after the last tensor");
  CHECK_CONTAINS(refusal(safetensors_bytes("[]", "")), "expected an object");
  CHECK_CONTAINS(refusal(safetensors_bytes(R"({"b":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})", "12345678")),
                 "a hole");
  CHECK_CONTAINS(refusal(std::string("\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF{}", 10)), "more than the format's limit");
}

TEST("safetensors refuses a file cut at any byte") {
  const std::string whole = safetensors_bytes(kHeader, kData);
  for (size_t size = 0; size < whole.size(); ++size) refusal(whole.substr(0, size));
}

TEST("safetensors survives flipped bits of size and header") {
  const TemporaryFolder folder;
  const std::string whole = safetensors_bytes(kHeader, kData);
  int opened = 0;
  for (size_t at = 0; at < 8 + kHeader.size(); ++at)
    for (int bit = 0; bit < 8; bit += 2) {
      std::string bytes = whole;
      bytes[at] = static_cast<char>(bytes[at] ^ (1 << bit));
      try {
        const Checkpoint file = Checkpoint::open_file(folder.write("x.safetensors", bytes));
        ++opened;  // another name, or a type of the same size
        for (const char* name : {"a", "b"})
          if (const TensorView* t = file.find(name)) {
            CHECK(t->data >= t->file->data() + 8 && t->data + t->bytes <= t->file->data() + t->file->bytes());
            for (size_t i = 0; i < t->bytes; ++i) CHECK(std::to_integer<int>(t->data[i]) == 1);
          }
      } catch (const EngineError& error) {
        CHECK(error.code() == "safetensors");
      }
    }
  CHECK(opened > 0);
}

TEST("a sharded checkpoint is read through its index, and a bad index is refused") {
  const TemporaryFolder folder;
  const auto shard = [](const std::string& name) {
    return safetensors_bytes("{\"" + name + R"(":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", "1234");
  };
  const auto index = [&](const std::string& map) {
    folder.write("model.safetensors.index.json", "{\"weight_map\": " + map + "}");
  };
  const auto refused = [&](const std::string& map) {
    index(map);
    return CHECK_THROWS(EngineError, "safetensors", Checkpoint::open_directory(folder.path()));
  };
  folder.write("one.safetensors", shard("a"));
  folder.write("two.safetensors", shard("b"));
  folder.write("again.safetensors", shard("a"));
  index(R"({"a": "one.safetensors", "b": "two.safetensors"})");
  const Checkpoint both = Checkpoint::open_directory(folder.path());
  CHECK(both.find("a") && both.find("b"));

  CHECK_CONTAINS(refused(R"({"a": "three.safetensors"})"), "shard three.safetensors is missing");
  CHECK_CONTAINS(refused(R"({"b": "one.safetensors"})"), "tensor 'b': is not in its shard one.safetensors");
  CHECK_CONTAINS(refused(R"({"a": "two.safetensors", "b": "one.safetensors"})"), "is not in its shard");
  CHECK_CONTAINS(refused(R"({"a": "one.safetensors", "c": "again.safetensors"})"), "is also in");
  for (const char* name :
       {"../one.safetensors", "/etc/passwd", "..", ".", "", "x/../one.safetensors", "a\\\\b", "one.safetensors\\u0000"})
    CHECK_CONTAINS(refused("{\"a\": \"" + std::string(name) + "\"}"), "is no plain file name");
  CHECK_CONTAINS(refused("{}"), "needs a weight_map");
  CHECK_CONTAINS(refused("{"), "JSON");
}

TEST("a checkpoint folder without weights is refused by name") {
  const TemporaryFolder folder;
  CHECK_CONTAINS((CHECK_THROWS(EngineError, "safetensors", Checkpoint::open_directory(folder.path()))),
                 "model.safetensors: cannot be opened");
}
