// A token from each row of logits: the most likely one, which is all that greedy decoding needs, or a draw.
#include <atomic>
#include <cmath>
#include <cstring>
#include <new>

// foreach_target compiles what follows it once per instruction set: the order of these includes matters.
// clang-format off
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/choose_tokens.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
// clang-format on

#include "../token_draw.h"
#include "cpu_backend.h"
#include "parallel.h"

HWY_BEFORE_NAMESPACE();
namespace internvl {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

/// The lowest index of the largest value; -1 when a value is NaN or infinity, or all are -infinity.
int64_t ArgmaxF32(const float* x, int64_t n) {
  const hn::ScalableTag<float> d;
  const int64_t lanes = hn::Lanes(d);
  // First the value, then its place: a pass over what is in the cache by then costs less than carrying
  // indices.
  auto most = hn::Set(d, -INFINITY);
  auto nan = hn::IsNaN(most);
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    const auto v = hn::LoadU(d, x + i);
    nan = hn::Or(nan, hn::IsNaN(v));
    most = hn::Max(most, v);
  }
  float largest = hn::GetLane(hn::MaxOfLanes(d, most));
  bool is_nan = !hn::AllFalse(d, nan);
  for (; i < n; ++i) {
    is_nan |= std::isnan(x[i]);
    if (x[i] > largest) largest = x[i];
  }
  if (is_nan || std::isinf(largest)) return -1;
  const auto wanted = hn::Set(d, largest);
  for (i = 0; i + lanes <= n; i += lanes) {
    const auto equal = hn::Eq(hn::LoadU(d, x + i), wanted);
    if (!hn::AllFalse(d, equal)) return i + hn::FindKnownFirstTrue(d, equal);
  }
  while (i < n && x[i] != largest) ++i;
  return i < n ? i : -1;
}

}  // namespace HWY_NAMESPACE
}  // namespace internvl
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace internvl {

HWY_EXPORT(ArgmaxF32);

void CpuBackend::ChooseTokens(const Tensor& logits, int64_t columns, const Indices& draws,
                              const Tensor& ids) {
  ParallelFor(logits.shape[0], logits.shape[0] * columns, [&](int64_t row, int) {
    ids.as<int32_t>()[row] =
        static_cast<int32_t>(HWY_DYNAMIC_DISPATCH(ArgmaxF32)(logits.row<float>(row), columns));
  });
  while (static_cast<int>(draw_memory_.size()) < MaxThreads()) draw_memory_.emplace_back(memory());
  std::atomic<bool> out_of_memory = false;
  ParallelForUneven(logits.shape[0], logits.shape[0] * columns, [&](int64_t row, int thread) {
    TokenDraw draw;
    std::memcpy(&draw, &draws.values[static_cast<size_t>(kDrawWords * row)], sizeof(draw));
    int32_t& id = ids.as<int32_t>()[row];
    if (draw.temperature == 0 || id < 0) return;
    const std::span<const float> values(logits.row<float>(row), static_cast<size_t>(columns));
    try {
      Scratch scratch(draw_memory_[static_cast<size_t>(thread)]);
      id = static_cast<int32_t>(Draw(values, values[static_cast<size_t>(id)], draw, scratch));
    } catch (const std::bad_alloc&) {
      out_of_memory = true;
    }
  });
  if (out_of_memory) throw std::bad_alloc();
}

}  // namespace internvl
#endif
