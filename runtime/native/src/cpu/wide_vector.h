#pragma once

#include "../memory.h"
#include "../tensor.h"
#include "row_math.h"

namespace internvl {

/// A vector parameter as float32, in the operation's scratch memory.
inline const float* WideVector(const Tensor& vector, Scratch& scratch) {
  float* wide = scratch.Get<float>(vector.elements());
  WithElement(vector.dtype, [&]<typename T>(T*) { Widen(vector.as<T>(), wide, vector.elements()); });
  return wide;
}

}  // namespace internvl
