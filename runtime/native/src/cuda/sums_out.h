// Where float32 sums of a product go: times the scales of an int8 weight, plus the bias, rounded once.
#pragma once

#include "element.h"

namespace internvl::cuda {

struct SumsOut {
  void* out;
  int64_t stride;       // elements from one row of out to the next
  const float* scales;  // of the columns; null: 1
  const void* bias;     // of the columns; null: 0
  bool bfloat16_out, bfloat16_bias;

  /// Of out [T, N] = ... + bias [N]; scales are those of weight [N, K].
  static SumsOut Of(const Tensor& weight, const Tensor* bias, const Tensor& out) {
    return {.out = out.data,
            .stride = out.cols(),
            .scales = weight.dtype == DType::kInt8 ? weight.scales() : nullptr,
            .bias = bias == nullptr ? nullptr : bias->data,
            .bfloat16_out = out.dtype == DType::kBFloat16,
            .bfloat16_bias = bias != nullptr && bias->dtype == DType::kBFloat16};
  }

  /// The columns from `first` on.
  SumsOut From(int64_t first) const {
    SumsOut rest = *this;
    const auto after = [first](const auto* start, int64_t bytes) {
      return start == nullptr ? nullptr : reinterpret_cast<const char*>(start) + first * bytes;
    };
    rest.out = const_cast<char*>(after(out, bfloat16_out ? 2 : 4));
    rest.scales = reinterpret_cast<const float*>(after(scales, 4));
    rest.bias = after(bias, bfloat16_bias ? 2 : 4);
    return rest;
  }

  /// The rows from `first` on.
  SumsOut Below(int64_t first) const {
    SumsOut rest = *this;
    rest.out = static_cast<char*>(out) + first * stride * (bfloat16_out ? 2 : 4);
    return rest;
  }

  __device__ void Store(int64_t row, int64_t column, float sum) const {
    if (scales != nullptr) sum *= scales[column];
    if (bias != nullptr) sum = __fadd_rn(sum, Load(bias, bfloat16_bias, column));
    const int64_t at = row * stride + column;
    if (bfloat16_out) {
      static_cast<BFloat16*>(out)[at] = NarrowToBFloat16(sum);
    } else {
      static_cast<float*>(out)[at] = sum;
    }
  }
};

}  // namespace internvl::cuda
