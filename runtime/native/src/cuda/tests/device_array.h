// Memory, tensors and random values for tests of kernels on the emulation.
#pragma once

#include <algorithm>
#include <cstring>
#include <random>
#include <type_traits>
#include <vector>

#include "../../memory.h"
#include "../launch.h"

namespace internvl::cuda {

class UnwrittenMemory final : public MemorySource {
 public:
  std::byte* Take(size_t bytes) override {
    void* data;
    Check(cudaMalloc(&data, bytes), "cudaMalloc");
    std::memset(data, 0xff, bytes);  // what a kernel must not rely on
    return static_cast<std::byte*>(data);
  }
  void Give(std::byte* data, size_t) override { cudaFree(data); }
};

/// On the device; NaN until written.
template <typename T>
class DeviceArray {
 public:
  explicit DeviceArray(size_t count)
      : memory_(Source(), std::max<size_t>(count, 1) * sizeof(T)), count_(count) {}
  explicit DeviceArray(const std::vector<T>& values) : DeviceArray(values.size()) { Write(values); }
  void Write(const std::vector<T>& values) { std::copy(values.begin(), values.end(), data()); }
  T* data() const { return reinterpret_cast<T*>(memory_.data()); }
  size_t size() const { return count_; }

 private:
  static MemorySource& Source() {
    static UnwrittenMemory source;
    return source;
  }
  Memory memory_;
  size_t count_;
};

template <typename T>
Tensor Matrix(const DeviceArray<T>& data, int64_t columns) {
  const DType dtype = std::is_same_v<T, float>      ? DType::kFloat32
                      : std::is_same_v<T, BFloat16> ? DType::kBFloat16
                                                    : DType::kInt32;
  return {.dtype = dtype,
          .dims = 2,
          .shape = {static_cast<int64_t>(data.size()) / columns, columns},
          .data = data.data()};
}

inline std::mt19937 random_numbers(20250711);

template <typename T>
std::vector<T> Random(size_t count) {
  std::normal_distribution<float> normal;
  std::vector<T> values(count);
  for (T& value : values) value = FromFloat<T>(normal(random_numbers));
  return values;
}

inline cudaStream_t Stream() {
  static cudaStream_t stream = [] {
    cudaStream_t made;
    Check(cudaStreamCreateWithFlags(&made, cudaStreamNonBlocking), "stream");
    return made;
  }();
  return stream;
}

}  // namespace internvl::cuda
