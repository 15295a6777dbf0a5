// Attention in double precision, and how far a result may be from it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "../../tensor.h"

namespace internvl::cuda {

/// How far results have been from the reference, as a part of what they may be.
struct Worst {
  double part = 0;   // of the tolerance
  double error = 0;  // absolute, where the part was worst
  int64_t compared = 0;
};

/// One row of q over keys and values, and the result to compare, all [dim] in T. A row is right when each
/// element is within
/// - bfloat16: 2^-8 of itself, which is its own rounding, and 2^-8 of the mean of |v| by the weights, since
/// each
///   weight may have been rounded; and 1e-4 of both for what float32 and exp2 do,
/// - float32: 1e-5 of both.
/// NaN never is. Returns what is wrong, or "".
template <typename T>
std::string CompareRow(const T* q, const std::vector<const T*>& keys, const std::vector<const T*>& values,
                       int64_t dim, double scale, const T* result, Worst& worst);

}  // namespace internvl::cuda
