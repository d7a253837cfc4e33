#include "safetensors.h"

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <set>

#include "errors.h"
#include "json.h"

namespace longhaul {
namespace {

constexpr size_t kMaxHeader = 100'000'000;  // the format's own limit
constexpr size_t kMaxIndex = 64 << 20;

[[noreturn]] void fail(const std::string& file, const std::string& what) {
  throw EngineError("safetensors", file + ": " + what);
}
[[noreturn]] void fail(const std::string& file, const std::string& tensor, const std::string& what) {
  fail(file, "tensor '" + tensor + "': " + what);
}

/// Bytes of one element, 0 for an unknown type.
size_t dtype_bytes(const std::string& dtype) {
  static const std::map<std::string, size_t> kBytes = {
      {"BOOL", 1}, {"U8", 1},  {"I8", 1},  {"F8_E4M3", 1}, {"F8_E5M2", 1}, {"U16", 2}, {"I16", 2}, {"F16", 2},
      {"BF16", 2}, {"U32", 4}, {"I32", 4}, {"F32", 4},     {"U64", 8},     {"I64", 8}, {"F64", 8}};
  const auto at = kBytes.find(dtype);
  return at == kBytes.end() ? 0 : at->second;
}

/// Product of shape and element size; refuses negative dimensions and overflow.
size_t tensor_bytes(const std::string& file, const std::string& name, const TensorView& tensor) {
  uint64_t bytes = dtype_bytes(tensor.dtype);
  for (const int64_t n : tensor.shape)
    if (n < 0 || __builtin_mul_overflow(bytes, static_cast<uint64_t>(n), &bytes))
      fail(file, name, "shape " + shape_text(tensor.shape) + " is no shape that memory can hold");
  return bytes;
}

/// One entry of the header: {"dtype": "BF16", "shape": [2, 3], "data_offsets": [0, 12]}.
TensorView read_entry(const std::shared_ptr<const MappedFile>& file, size_t data_start, const std::string& name,
                      const Json& entry) {
  const std::string& path = file->path();
  TensorView tensor;
  tensor.file = file;
  const Json* dtype = entry.find("dtype");
  const Json* shape = entry.find("shape");
  const Json* offsets = entry.find("data_offsets");
  if (!dtype || !dtype->string() || !shape || !shape->array() || !offsets || !offsets->array() ||
      offsets->array()->size() != 2)
    fail(path, name, "its header entry needs a dtype, a shape and two data_offsets");
  tensor.dtype = *dtype->string();
  if (dtype_bytes(tensor.dtype) == 0) fail(path, name, "dtype '" + tensor.dtype + "' is not known");
  for (const Json& n : *shape->array()) {
    if (!n.integer()) fail(path, name, "shape holds " + n.describe() + ", which is no size");
    tensor.shape.push_back(*n.integer());
  }
  const auto begin = (*offsets->array())[0].integer(), end = (*offsets->array())[1].integer();
  const size_t available = file->bytes() - data_start;
  if (!begin || !end || *begin < 0 || *end < *begin) fail(path, name, "data_offsets are no range");
  if (static_cast<uint64_t>(*end) > available)
    fail(path, name,
         "data ends at byte " + std::to_string(*end) + " of " + std::to_string(available) +
             "; the file is truncated, download it again");
  tensor.data = file->data() + data_start + *begin;
  tensor.bytes = static_cast<size_t>(*end - *begin);
  if (const size_t want = tensor_bytes(path, name, tensor); want != tensor.bytes)
    fail(path, name,
         "shape " + shape_text(tensor.shape) + " of " + tensor.dtype + " needs " + std::to_string(want) +
             " bytes, data_offsets hold " + std::to_string(tensor.bytes));
  return tensor;
}

/// The format leaves no byte of the data unused and none used twice; this also finds files with
/// something appended.
void check_coverage(const std::string& path, const std::byte* data, size_t bytes,
                    const std::map<std::string, TensorView>& tensors) {
  std::vector<std::pair<const TensorView*, const std::string*>> order;
  for (const auto& [name, tensor] : tensors) order.emplace_back(&tensor, &name);
  std::sort(order.begin(), order.end(), [](const auto& a, const auto& b) {
    return a.first->data != b.first->data ? a.first->data < b.first->data : a.first->bytes < b.first->bytes;
  });
  const std::byte* at = data;
  for (const auto& [tensor, name] : order) {
    if (tensor->data < at) fail(path, *name, "its data overlaps the tensor before it");
    if (tensor->data > at) fail(path, *name, "there is a hole in the data before it");
    at += tensor->bytes;
  }
  if (at != data + bytes) fail(path, std::to_string(data + bytes - at) + " bytes after the last tensor belong to none");
}

}  // namespace

std::string shape_text(const std::vector<int64_t>& shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + "]";
}

void Checkpoint::add_file(const std::string& path) {
  const auto file = std::make_shared<const MappedFile>(path, "safetensors");
  if (file->bytes() < 8) fail(path, std::to_string(file->bytes()) + " bytes cannot hold a header");
  uint64_t size = 0;
  for (int i = 7; i >= 0; --i) size = size << 8 | std::to_integer<uint64_t>(file->data()[i]);
  if (size > kMaxHeader)
    fail(path, "header of " + std::to_string(size) +
                   " bytes, more than the format's limit of 100000000; this is no safetensors file");
  if (size > file->bytes() - 8)
    fail(path, "header of " + std::to_string(size) + " bytes in a file of " + std::to_string(file->bytes()) +
                   "; the file is truncated, download it again");
  Json header;
  try {
    header = Json::parse({reinterpret_cast<const char*>(file->data()) + 8, size}, kMaxHeader);
  } catch (const JsonError& error) {
    fail(path, std::string("header is no valid ") + error.what());
  }
  if (!header.object()) fail(path, "header is " + header.describe() + ", expected an object");

  const size_t data_start = 8 + static_cast<size_t>(size);
  std::map<std::string, TensorView> own;
  for (const auto& [name, entry] : *header.object())
    if (name != "__metadata__") own.emplace(name, read_entry(file, data_start, name, entry));
  check_coverage(path, file->data() + data_start, file->bytes() - data_start, own);
  for (auto& [name, tensor] : own) {
    const auto [at, added] = tensors_.emplace(name, std::move(tensor));
    if (!added) fail(path, name, "is also in " + at->second.file->path());
  }
}

Checkpoint Checkpoint::open_file(const std::string& path) {
  Checkpoint checkpoint;
  checkpoint.source_ = path;
  checkpoint.add_file(path);
  return checkpoint;
}

Checkpoint Checkpoint::open_directory(const std::string& directory) {
  const std::string index_path = directory + "/model.safetensors.index.json";
  if (!std::filesystem::exists(index_path)) return open_file(directory + "/model.safetensors");
  Json index;
  try {
    index = Json::parse(read_text(index_path, kMaxIndex, "safetensors"), kMaxIndex);
  } catch (const JsonError& error) {
    fail(index_path, error.what());
  }
  const Json* map = index.find("weight_map");
  if (!map || !map->object() || map->object()->empty()) fail(index_path, "needs a weight_map from tensor to shard");

  std::set<std::string> shards;
  for (const auto& [name, shard] : *map->object()) {
    const std::string* file = shard.string();
    // A plain name only: a checkpoint may not make us read files outside its directory.
    if (!file || file->empty() || *file == "." || *file == ".." ||
        file->find_first_of(std::string("/\\\0", 3)) != file->npos)
      fail(index_path, name, "shard " + shard.describe() + " is no plain file name");
    shards.insert(*file);
  }
  Checkpoint checkpoint;
  checkpoint.source_ = directory;
  for (const std::string& shard : shards) {
    if (!std::filesystem::exists(directory + "/" + shard))
      fail(index_path, "shard " + shard + " is missing; download it");
    checkpoint.add_file(directory + "/" + shard);
  }
  for (const auto& [name, shard] : *map->object()) {
    const TensorView* tensor = checkpoint.find(name);
    if (!tensor || std::filesystem::path(tensor->file->path()).filename() != *shard.string())
      fail(index_path, name, "is not in its shard " + *shard.string());
  }
  return checkpoint;
}

const TensorView* Checkpoint::find(const std::string& name) const {
  const auto at = tensors_.find(name);
  return at == tensors_.end() ? nullptr : &at->second;
}

HostTensor Checkpoint::tensor(const std::string& name, int64_t rows, int64_t columns) const {
  const TensorView* found = find(name);
  const std::vector<int64_t> matrix{rows, columns}, vector{columns};
  const std::string want = shape_text(rows == 1 ? vector : matrix);
  if (!found) fail(source_, name, "is missing; the model needs it with shape " + want);
  const std::string& path = found->file->path();
  if (found->shape != matrix && !(rows == 1 && found->shape == vector))
    fail(path, name, "has shape " + shape_text(found->shape) + ", the model needs " + want);
  static const std::map<std::string, DType> kTypes = {{"F32", DType::F32}, {"F16", DType::F16}, {"BF16", DType::BF16}};
  const auto type = kTypes.find(found->dtype);
  if (type == kTypes.end()) fail(path, name, "is " + found->dtype + "; weights must be F32, F16 or BF16, convert it");
  if (reinterpret_cast<uintptr_t>(found->data) % dtype_bytes(found->dtype) != 0)
    fail(path, name, "its data is not aligned to its elements; save the file again with a current safetensors");
  return {found->data, type->second, rows, columns};
}

}  // namespace longhaul
