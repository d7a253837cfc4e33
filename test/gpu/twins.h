// Every op of the CUDA backend beside its twin on the CPU, over the same random numbers.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "backends/backend.h"
#include "check.h"
#include "engine/errors.h"

namespace twins {

using namespace longhaul;

/// The backends under comparison; the CUDA one comes from libapb_cuda.so, as in production.
Backend& cpu();
Backend& gpu();
/// A CUDA backend of its own, for a rank.
std::shared_ptr<Backend> make_gpu();

inline uint16_t to_bits(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return 0x7fff;  // NaN
  return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}
inline float from_bits(uint16_t half) {
  const uint32_t bits = static_cast<uint32_t>(half) << 16;
  float x;
  std::memcpy(&x, &bits, 4);
  return x;
}
/// The nearest bfloat16, so that both backends start from the same value.
inline float rounded(float x) { return from_bits(to_bits(x)); }

/// Reproducible numbers in [-scale, scale], each a bfloat16.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed * 2654435769u + 1) {}
  float next(float scale = 1.f) {
    state_ = state_ * 6364136223846793005u + 1442695040888963407u;
    return rounded(scale * static_cast<float>(static_cast<double>(state_ >> 11) * 0x1p-52 - 1.0));
  }
  std::vector<float> many(int64_t n, float scale = 1.f) {
    std::vector<float> out(static_cast<size_t>(n));
    for (float& x : out) x = next(scale);
    return out;
  }

 private:
  uint64_t state_;
};

/// One matrix on both sides, `gap` elements between rows, `skip` before the first. Without numbers it is
/// poisoned with NaN, so that an element that an op leaves out is found; the gaps always are.
class Both {
 public:
  Both(int64_t rows, int64_t columns, int64_t gap = 3, int64_t skip = 0);
  Both(Random& random, int64_t rows, int64_t columns, float scale = 1.f, int64_t gap = 3, int64_t skip = 0);

  Matrix on_cpu() { return {host_.data() + skip_, rows_, columns_, columns_ + gap_}; }
  Matrix on_gpu() { return {static_cast<std::byte*>(device_->data()) + skip_ * 2, rows_, columns_, columns_ + gap_}; }
  Matrix on(Backend& backend) { return backend.host_memory() ? on_cpu() : on_gpu(); }

  /// Compares what the two hold: ||gpu - cpu|| <= tolerance * ||cpu||, every number finite, gaps untouched.
  void check_equal(double tolerance, const std::string& what);

 private:
  void upload();
  int64_t rows_, columns_, gap_, skip_;
  std::vector<float> host_;  // skip, then rows of columns + gap
  BufferPtr device_;         // the same in bfloat16
};

/// Numbers that both sides keep as they are (float32 scores, int32 indices), [n] plus a sentinel behind.
template <class T>
class Plain {
 public:
  explicit Plain(int64_t n) : host(static_cast<size_t>(n + 1), poison()), device_(gpu().allocate((host.size()) * sizeof(T))) { upload(); }
  explicit Plain(const std::vector<T>& values) : Plain(static_cast<int64_t>(values.size())) {
    std::copy(values.begin(), values.end(), host.begin());
    upload();
  }
  T* on_cpu() { return host.data(); }
  T* on_gpu() { return static_cast<T*>(device_->data()); }
  std::vector<T> from_gpu() {
    std::vector<T> out(host.size());
    gpu().download(out.data(), device_->data(), out.size() * sizeof(T));
    CHECK(std::memcmp(&out.back(), &kPoison, sizeof(T)) == 0);
    out.pop_back();
    return out;
  }
  std::vector<T> from_cpu() const { return {host.begin(), host.end() - 1}; }

  std::vector<T> host;

 private:
  static constexpr uint32_t kPoison = 0x7fc0dead;  // a NaN as float, no index as int
  static T poison() {
    T value;
    std::memcpy(&value, &kPoison, sizeof(T));
    return value;
  }
  void upload() { gpu().upload(device_->data(), host.data(), host.size() * sizeof(T)); }
  BufferPtr device_;
};

/// Relative error of two lists, infinite for a NaN; equal infinities agree.
double relative_error(const std::vector<float>& got, const std::vector<float>& want);

inline HostTensor tensor(const std::vector<float>& data, int64_t rows, int64_t columns) {
  return {data.data(), DType::F32, rows, columns};
}

}  // namespace twins
