// The bytes per second that a machine's cores read from memory together, best of some ways to read and some
// passes of each: what decoding is measured against. Read as one stream a core waits for memory most of the
// time; how many streams are best differs between processors. usage: read-bandwidth THREADS

#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <barrier>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <vector>

namespace {

using Line = uint64_t __attribute__((vector_size(64)));

/// Of each thread: together above what any cache holds.
constexpr int64_t kBytes = int64_t{512} << 20;
constexpr int64_t kRowLines = 128;  // 8 KiB
constexpr int kPasses = 3;

/// Rows side by side, kStreams at a time, and those behind them called ahead.
template <int kStreams>
Line Read(const Line* lines) {
  constexpr int64_t kBlock = kStreams * kRowLines;
  Line sums[kStreams] = {};
  for (const Line* block = lines; block < lines + kBytes / int64_t{sizeof(Line)}; block += kBlock) {
    for (int64_t i = 0; i < kRowLines; ++i) {
      for (int s = 0; s < kStreams; ++s) {
        const Line* const at = block + s * kRowLines + i;
        __builtin_prefetch(at + kBlock, 0, 3);
        sums[s] += *at;
      }
    }
  }
  for (int s = 1; s < kStreams; ++s) sums[0] += sums[s];
  return sums[0];
}

}  // namespace

int main(int count, char** arguments) {
  const int threads = count == 2 ? std::atoi(arguments[1]) : 0;
  if (threads < 1) {
    std::fprintf(stderr, "usage: read-bandwidth THREADS\n");
    return 2;
  }
  constexpr Line (*kWays[])(const Line*) = {Read<1>, Read<2>, Read<4>, Read<8>, Read<16>};
  using Clock = std::chrono::steady_clock;
  double best = 0;
  Clock::time_point begin;
  std::atomic<uint64_t> seen = 0;  // so that the sums are not left out
  std::barrier start(threads, [&]() noexcept { begin = Clock::now(); });
  std::barrier end(threads, [&]() noexcept {
    const double seconds = std::chrono::duration<double>(Clock::now() - begin).count();
    best = std::max(best, static_cast<double>(threads) * kBytes / seconds);
  });
  const auto work = [&] {
    // Where what is called ahead ends.
    constexpr int64_t kBehind = 16 * kRowLines * int64_t{sizeof(Line)};
    void* const memory =
        mmap(nullptr, kBytes + kBehind, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) std::abort();
    madvise(memory, kBytes + kBehind, MADV_HUGEPAGE);
    std::memset(memory, 1, kBytes + kBehind);
    for (const auto way : kWays) {
      for (int pass = 0; pass < kPasses; ++pass) {
        start.arrive_and_wait();
        const Line sum = way(static_cast<const Line*>(memory));
        end.arrive_and_wait();
        seen += sum[0];
      }
    }
  };
  std::vector<std::thread> team;
  for (int i = 0; i < threads; ++i) team.emplace_back(work);
  for (std::thread& member : team) member.join();
  std::printf("%.0f\n", best);
}
