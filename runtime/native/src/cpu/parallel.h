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

/// Calls f(thread, threads) on every thread at once, on one when `work` does not repay waking the others. f
/// must not throw.
template <typename F>
void ParallelRegion(int64_t work, F&& f) {
  constexpr int64_t kWorthwhile = 1 << 15;
#pragma omp parallel if (work >= kWorthwhile)
  f(omp_get_thread_num(), omp_get_num_threads());
}

/// Inside a ParallelRegion: every thread has come here before any goes on.
inline void TeamBarrier() {
#pragma omp barrier
}

}  // namespace internvl
