#include <sys/random.h>

#include <fstream>

#include "launch.h"
#include "peer_views.h"
#include "rank_introduction.h"

namespace internvl::cuda {
namespace {

uint64_t ThisProcess() {
  static const uint64_t number = [] {
    uint64_t value = 0;
    if (getrandom(&value, sizeof(value), 0) != sizeof(value)) throw DeviceError("no randomness for an id");
    return value;
  }();
  return number;
}

/// "ranks 0 and 1", the first two for which `same` holds; empty: none.
template <typename F>
std::string Two(std::span<const RankIntroduction> ranks, F&& same) {
  for (size_t a = 0; a < ranks.size(); ++a) {
    for (size_t b = a + 1; b < ranks.size(); ++b) {
      if (same(ranks[a], ranks[b])) return "ranks " + std::to_string(a) + " and " + std::to_string(b);
    }
  }
  return "";
}

}  // namespace

RankIntroduction RankIntroduction::Mine() {
  RankIntroduction mine;
  std::ifstream("/proc/sys/kernel/random/boot_id").read(mine.machine.data(), mine.machine.size() - 1);
  mine.process = ThisProcess();
  int device = 0;
  Check(cudaGetDevice(&device), "cudaGetDevice");
  Check(cudaDeviceGetPCIBusId(mine.device.data(), static_cast<int>(mine.device.size()), device),
        "cudaDeviceGetPCIBusId");
  return mine;
}

std::string WhyNoPeerMemory(std::span<const RankIntroduction> ranks) {
  using Rank = const RankIntroduction&;
  if (ranks.size() > kMostRanks)
    return "there are " + std::to_string(ranks.size()) + " ranks, more than " + std::to_string(kMostRanks);
  if (const auto two = Two(ranks, [](Rank a, Rank b) { return a.machine != b.machine; }); !two.empty())
    return two + " are on two machines";
  if (const auto two = Two(ranks, [](Rank a, Rank b) { return a.process == b.process; }); !two.empty())
    return two + " are one process";
  return "";
}

std::string WhyNoNccl(std::span<const RankIntroduction> ranks) {
  using Rank = const RankIntroduction&;
  const auto same_device = [](Rank a, Rank b) { return a.machine == b.machine && a.device == b.device; };
  if (const auto two = Two(ranks, same_device); !two.empty()) return two + " share one device";
  const auto two_versions = [](Rank a, Rank b) { return a.nccl != 0 && b.nccl != 0 && a.nccl != b.nccl; };
  if (const auto two = Two(ranks, two_versions); !two.empty()) return two + " have two versions of it";
  return "";
}

}  // namespace internvl::cuda
