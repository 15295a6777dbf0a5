// What a layer's output adds to a row of the residual stream, and where that is rounded.
#pragma once

#include <type_traits>

#include "row_math.h"

namespace internvl {

/// sum += y, or y * scale [n] where there is one; y and the product rounded to what X holds, the sum not yet.
/// term [n]: working memory.
template <typename X, typename Y>
void AddTerm(const Y* y, const float* scale, float* term, float* sum, int64_t n) {
  Widen(y, term, n);
  if constexpr (!std::is_same_v<X, Y>) RoundRow<X>(term, n);
  if (scale != nullptr) {
    MulRow(scale, term, n);
    RoundRow<X>(term, n);
  }
  AddRow(term, sum, n);
}

}  // namespace internvl
