// Reads safetensors files, one or sharded, without copying: tensors point into mapped files.
//
// A file is trusted with nothing: header size, JSON, shapes and offsets are all checked before any
// tensor is handed out (format: 8 bytes little-endian header size, JSON header, data).
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "../backends/backend.h"
#include "files.h"

namespace longhaul {

/// A tensor of a file: row-major, little-endian.
struct TensorView {
  std::string dtype;           // as in the header: "F32", "BF16", "I32", ...
  std::vector<int64_t> shape;
  const std::byte* data = nullptr;
  size_t bytes = 0;
  std::shared_ptr<const MappedFile> file;
};

/// "[128, 64]".
std::string shape_text(const std::vector<int64_t>& shape);

class Checkpoint {
 public:
  /// One .safetensors file. Throws EngineError("safetensors") naming file and tensor.
  static Checkpoint open_file(const std::string& path);

  /// model.safetensors.index.json with its shards when it is there, else model.safetensors.
  static Checkpoint open_directory(const std::string& directory);

  /// Null when there is no such tensor.
  const TensorView* find(const std::string& name) const;

  /// A weight [rows, columns], or with `rows` 1 also a vector [columns]; F32, F16 or BF16.
  /// Throws EngineError("safetensors") naming file, tensor, expected and found shape.
  HostTensor tensor(const std::string& name, int64_t rows, int64_t columns) const;

 private:
  void add_file(const std::string& path);
  std::string source_;  // the file or directory, for messages
  std::map<std::string, TensorView> tensors_;
};

}  // namespace longhaul
