// Rows of activations: owned ones, and views of a part of them.
#pragma once

#include <algorithm>

#include "../backends/backend.h"

namespace longhaul {

/// A buffer and the dense matrix in it.
struct Rows {
  BufferPtr buffer;
  Matrix view;  // [rows, columns]
};

/// Keys and values that own their memory; `view` is [rows, NK*D] twice.
struct OwnedKeyValues {
  Rows keys, values;
  KeyValues view() const { return {keys.view, values.view}; }
};

/// Uninitialised bytes; never an empty allocation, which devices treat differently.
inline BufferPtr allocate_bytes(Backend& backend, size_t bytes) {
  return backend.allocate(std::max<size_t>(bytes, 256));
}

inline Rows allocate_rows(Backend& backend, int64_t rows, int64_t columns) {
  const size_t bytes = static_cast<size_t>(rows * columns) * backend.element_bytes();
  BufferPtr buffer = allocate_bytes(backend, bytes);
  return {buffer, {buffer->data(), rows, columns, columns}};
}

inline OwnedKeyValues allocate_key_values(Backend& backend, int64_t rows, int64_t columns) {
  return {allocate_rows(backend, rows, columns), allocate_rows(backend, rows, columns)};
}

inline std::byte* element(const Backend& backend, const Matrix& m, int64_t row, int64_t column) {
  return static_cast<std::byte*>(m.data) + static_cast<size_t>(row * m.stride + column) * backend.element_bytes();
}

/// Rows [first, first + count) of m.
inline Matrix rows_of(const Backend& backend, const Matrix& m, int64_t first, int64_t count) {
  return {element(backend, m, first, 0), count, m.columns, m.stride};
}

/// Columns [first, first + count) of m.
inline Matrix columns_of(const Backend& backend, const Matrix& m, int64_t first, int64_t count) {
  return {element(backend, m, 0, first), m.rows, count, m.stride};
}

inline KeyValues rows_of(const Backend& backend, const KeyValues& kv, int64_t first, int64_t count) {
  return {rows_of(backend, kv.keys, first, count), rows_of(backend, kv.values, first, count)};
}

/// to = from, of equal shape.
inline void copy_matrix(Backend& backend, const Matrix& to, const Matrix& from) {
  const size_t size = backend.element_bytes();
  backend.copy_rows(to.data, static_cast<size_t>(to.stride) * size, from.data, static_cast<size_t>(from.stride) * size,
                    static_cast<size_t>(from.columns) * size, from.rows);
}

}  // namespace longhaul
