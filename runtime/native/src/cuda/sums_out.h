// Where float32 sums of a product go: times the scales of its factors, plus the bias, rounded once.
#pragma once

#include "packs.h"

namespace internvl::cuda {

struct SumsOut {
  void* out;
  int64_t stride;       // elements from one row of out to the next
  const float* scales;  // of the columns; null: 1
  Parameters bias;      // of the columns; null: 0
  bool bfloat16_out;
  const float* row_scales = nullptr;  // null: 1

  /// Of out [T, N] = ... + bias [N]; scales are those of weight [N, K].
  static SumsOut Of(const Tensor& weight, const Tensor* bias, const Tensor& out) {
    return {.out = out.data,
            .stride = out.cols(),
            .scales = IsQuantized(weight.dtype) ? weight.scales() : nullptr,
            .bias = Parameters(bias),
            .bfloat16_out = out.dtype == DType::kBFloat16};
  }

  /// The columns from `first` on.
  SumsOut From(int64_t first) const {
    SumsOut rest = *this;
    const auto after = [first](const auto* start, int64_t bytes) {
      return start == nullptr ? nullptr : reinterpret_cast<const char*>(start) + first * bytes;
    };
    rest.out = const_cast<char*>(after(out, bfloat16_out ? 2 : 4));
    rest.scales = reinterpret_cast<const float*>(after(scales, 4));
    rest.bias.data = after(bias.data, bias.bfloat16 ? 2 : 4);
    return rest;
  }

  /// The rows from `first` on.
  SumsOut Below(int64_t first) const {
    SumsOut rest = *this;
    rest.out = static_cast<char*>(out) + first * stride * (bfloat16_out ? 2 : 4);
    if (row_scales != nullptr) rest.row_scales = row_scales + first;
    return rest;
  }

  __device__ void Store(int64_t row, int64_t column, float sum) const {
    if (row_scales != nullptr) sum *= row_scales[row];
    if (scales != nullptr) sum *= scales[column];
    if (bias.data != nullptr) {
      float shift[1];
      bias.Load(column, shift);
      sum = __fadd_rn(sum, shift[0]);
    }
    const float value[1] = {sum};
    const int64_t at = row * stride + column;
    if (bfloat16_out) {
      StorePack(value, static_cast<BFloat16*>(out) + at);
    } else {
      StorePack(value, static_cast<float*>(out) + at);
    }
  }
};

}  // namespace internvl::cuda
