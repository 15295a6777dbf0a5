// One of the paged caches with random rows, for tests of kernels on the emulation.
#pragma once

#include <algorithm>
#include <cmath>
#include <type_traits>
#include <vector>

#include "../../float8_rows.h"
#include "device_array.h"

namespace internvl::cuda {

/// Keys or values on the device, and as T what they stand for. NaN but for the slots that were set.
template <typename T, typename Cached>
class CacheCopy {
 public:
  CacheCopy(int64_t slots, int64_t heads, int64_t dim)
      : slots_(slots),
        heads_(heads),
        dim_(dim),
        values_(static_cast<size_t>(slots * heads * dim)),
        device_(static_cast<size_t>(tensor(nullptr).bytes())) {
    Clear();
  }

  void Clear() {
    std::fill(values_.begin(), values_.end(), FromFloat<T>(NAN));
    std::fill_n(device_.data(), device_.size(), uint8_t{0xff});
  }

  void Set(int64_t slot) {
    const std::vector<T> drawn = Random<T>(static_cast<size_t>(heads_ * dim_));
    std::copy(drawn.begin(), drawn.end(), values_.begin() + slot * heads_ * dim_);
    if constexpr (kFloat8) {
      for (int64_t head = 0; head < heads_; ++head) SetFloat8(slot, head);
    } else {
      std::copy(drawn.begin(), drawn.end(), tensor().template row<T>(slot));
    }
  }

  const T* row(int64_t slot, int64_t head) const { return values_.data() + (slot * heads_ + head) * dim_; }
  Tensor tensor() const { return tensor(device_.data()); }

 private:
  static constexpr bool kFloat8 = std::is_same_v<Cached, Float8>;

  Tensor tensor(void* data) const {
    if (kFloat8) return {.dtype = DType::kFloat8, .dims = 2, .shape = {heads_ * slots_, dim_}, .data = data};
    const DType dtype = std::is_same_v<T, float> ? DType::kFloat32 : DType::kBFloat16;
    return {.dtype = dtype, .dims = 2, .shape = {slots_, heads_ * dim_}, .data = data};
  }

  /// Rows have an eighth of to all the magnitude of what was drawn, so that no scale does for another.
  void SetFloat8(int64_t slot, int64_t head) {
    T* const values = values_.data() + (slot * heads_ + head) * dim_;
    const float magnitude = std::ldexp(1.0f, static_cast<int>(random_numbers() % 4) - 3);
    uint32_t largest = 0;
    for (int64_t d = 0; d < dim_; ++d) {
      values[d] = FromFloat<T>(ToFloat(values[d]) * magnitude);
      largest = std::max(largest, MagnitudeBits(ToFloat(values[d])));
    }
    const Tensor cache = tensor();
    const int64_t row = head * slots_ + slot;
    const float scale = cache.scales()[row] = Float8RowScale(largest);
    for (int64_t d = 0; d < dim_; ++d) {
      const uint8_t code = ToFloat8(ToFloat(values[d]) / scale);
      cache.row<Float8>(row)[d] = {code};
      values[d] = FromFloat<T>(FromFloat8(code) * scale);
    }
  }

  const int64_t slots_, heads_, dim_;
  std::vector<T> values_;
  const DeviceArray<uint8_t> device_;
};

}  // namespace internvl::cuda
