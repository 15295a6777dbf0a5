// The memory that ranks on one machine open to each other, as their kernels see it. A rank's memory holds
// what others say to it: they write, it reads. Writes to another device need no answer to go on; reads would
// wait for one.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

#include "loss_words.h"

namespace internvl::cuda {

constexpr int kMostRanks = 8;
/// Of a kernel that waits for other ranks' kernels. All of them must run at the same time: no kernel has more
/// blocks than a device has multiprocessors, even if two ranks share one.
constexpr int kMostBlocks = 32;
/// What one rank sends to another at once.
constexpr size_t kSlotBytes = size_t{1} << 20;

/// At the beginning of each rank's memory, zero at first.
struct PeerHeader {
  static constexpr int kMeetings = 2;  // in one exchange at most
  /// The last exchange for which block b of rank r has come to meeting m. Never goes back.
  uint64_t came[kMeetings][kMostBlocks][kMostRanks];
  /// The rank's own: the last exchange of its block b.
  uint64_t exchange[kMostBlocks];
  /// The rank's own: not 0 once one of its kernels has given up; what comes after does nothing.
  uint32_t lost;
};

/// A kernel's parameter.
struct PeerViews {
  static constexpr size_t kHeaderBytes = 8192;

  int rank, world;
  uint64_t patience_ns;
  LossWords* words;
  std::byte* memory[kMostRanks];  // by rank

  __host__ __device__ static size_t Bytes(int world) {
    return kHeaderBytes + 4 * static_cast<size_t>(world) * kSlotBytes;
  }

  __device__ PeerHeader* header(int of) const { return reinterpret_cast<PeerHeader*>(memory[of]); }
  /// In rank `of`'s memory: what rank `from` has sent for it to work on. Exchanges take two sets in turn.
  __device__ uint4* sent(int of, uint64_t exchange, int from) const {
    return Slot(of, 2 * static_cast<int>(exchange & 1), from);
  }
  /// In rank `of`'s memory: what rank `from` has worked out for all.
  __device__ uint4* worked_out(int of, uint64_t exchange, int from) const {
    return Slot(of, 2 * static_cast<int>(exchange & 1) + 1, from);
  }

 private:
  __device__ uint4* Slot(int of, int set, int from) const {
    return reinterpret_cast<uint4*>(memory[of] + kHeaderBytes +
                                    static_cast<size_t>(set * world + from) * kSlotBytes);
  }
};
static_assert(sizeof(PeerHeader) <= PeerViews::kHeaderBytes);

}  // namespace internvl::cuda
