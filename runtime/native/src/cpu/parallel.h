// OpenMP loops over rows and heads. The thread count is the calling thread's own (set by setThreads).
#pragma once

#include <omp.h>

#include <cstdint>

namespace internvl {

inline int MaxThreads() { return omp_get_max_threads(); }

/// Calls f(index, thread) for every index, in parallel when `work` (elements touched) repays waking the
/// threads. f must not throw.
template <typename F>
void ParallelFor(int64_t count, int64_t work, F&& f) {
  constexpr int64_t kWorthwhile = 1 << 15;
#pragma omp parallel for schedule(static) if (work >= kWorthwhile && count > 1)
  for (int64_t i = 0; i < count; ++i) f(i, omp_get_thread_num());
}

/// Like ParallelFor for few items of unequal size.
template <typename F>
void ParallelForUneven(int64_t count, int64_t work, F&& f) {
  constexpr int64_t kWorthwhile = 1 << 15;
#pragma omp parallel for schedule(dynamic, 1) if (work >= kWorthwhile && count > 1)
  for (int64_t i = 0; i < count; ++i) f(i, omp_get_thread_num());
}

}  // namespace internvl
