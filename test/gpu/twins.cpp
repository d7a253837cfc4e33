#include "twins.h"

#include <limits>

#include "backends/cpu/cpu_backend.h"
#include "backends/load/cuda_library.h"

namespace twins {

std::shared_ptr<Backend> make_gpu() { return open_cuda_library({}).make({}); }

Backend& cpu() {
  static const std::shared_ptr<Backend> backend = make_cpu_backend({4, Isa::Auto});
  return *backend;
}

Backend& gpu() {
  static const std::shared_ptr<Backend> backend = make_gpu();
  return *backend;
}

Both::Both(int64_t rows, int64_t columns, int64_t gap, int64_t skip)
    : rows_(rows), columns_(columns), gap_(gap), skip_(skip),
      host_(static_cast<size_t>(skip + rows * (columns + gap)), std::numeric_limits<float>::quiet_NaN()),
      device_(gpu().allocate(host_.size() * 2)) {
  upload();
}

Both::Both(Random& random, int64_t rows, int64_t columns, float scale, int64_t gap, int64_t skip) : Both(rows, columns, gap, skip) {
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t j = 0; j < columns; ++j) host_[static_cast<size_t>(skip + i * (columns + gap) + j)] = random.next(scale);
  upload();
}

void Both::upload() {
  std::vector<uint16_t> bits;
  for (const float x : host_) bits.push_back(to_bits(x));
  gpu().upload(device_->data(), bits.data(), bits.size() * 2);
}

void Both::check_equal(double tolerance, const std::string& what) {
  std::vector<uint16_t> bits(host_.size());
  gpu().download(bits.data(), device_->data(), bits.size() * 2);
  std::vector<float> got, want;
  for (size_t i = 0; i < bits.size(); ++i) {
    const int64_t at = static_cast<int64_t>(i) - skip_, column = at % (columns_ + gap_);
    if (at < 0 || column >= columns_) {
      if (bits[i] != 0x7fff) check::fail(__FILE__, __LINE__, what + ": the op wrote between the rows, at " + std::to_string(i));
      continue;
    }
    got.push_back(from_bits(bits[i]));
    want.push_back(host_[i]);
  }
  const double error = relative_error(got, want);
  if (!(error <= tolerance))
    check::fail(__FILE__, __LINE__, what + ": relative error " + std::to_string(error) + ", allowed " + std::to_string(tolerance));
}

double relative_error(const std::vector<float>& got, const std::vector<float>& want) {
  if (got.size() != want.size()) return std::numeric_limits<double>::infinity();
  double difference = 0, size = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    if (got[i] == want[i] && std::isinf(got[i])) continue;
    if (!std::isfinite(got[i]) || !std::isfinite(want[i])) return std::numeric_limits<double>::infinity();
    difference += (static_cast<double>(got[i]) - want[i]) * (static_cast<double>(got[i]) - want[i]);
    size += static_cast<double>(want[i]) * want[i];
  }
  return difference == 0 ? 0 : std::sqrt(difference / size);
}

}  // namespace twins

using namespace twins;

TEST("gpu: the backend says which card it is") {
  std::printf("     %s\n", gpu().description().c_str());
  CHECK(gpu().description().starts_with("cuda (") && gpu().element_bytes() == 2 && !gpu().host_memory());
}
