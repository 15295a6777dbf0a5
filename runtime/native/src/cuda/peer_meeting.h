// How kernels of several ranks meet. Every rank launches the same exchanges with the same grids, and block b
// of each rank exchanges with block b of the others only, so that blocks need not run at the same time as
// others of their grid.
//
// Why nothing is read too early: what a block's threads write to a peer comes before the block's barrier,
// that before the release of its word in the peer's memory; the peer's block acquires the word, then passes a
// barrier, then reads. Why nothing is overwritten too early: exchanges take two sets of slots in turn. A rank
// writes a set again two exchanges later; by then it has met every peer in the exchange between, whose kernel
// starts on the peer's stream after all of its reads in the one before.
//
// The number of an exchange lives in the device's memory and a kernel advances it itself, so that a recorded
// launch is a new exchange at each replay. In 64 bits it does not come round.
#pragma once

#include "peer_views.h"
#include "system_scope.h"

namespace internvl::cuda {

/// Polls before a block leaves its multiprocessor to others between them: about as long as ranks that are in
/// step are apart.
constexpr int kEagerPolls = 256;

/// False when the host says stop, this rank has given up, or patience ends. The host's word is far away and
/// is asked now and then.
__device__ inline bool WaitFor(const PeerViews& views, uint64_t* came, uint64_t exchange) {
  for (int i = 0; i < kEagerPolls; ++i) {
    if (LoadAcquire(came) >= exchange) return true;
  }
  const uint64_t start = Nanoseconds();
  for (;;) {
    for (int i = 0; i < 64; ++i) {
      if (LoadAcquire(came) >= exchange) return true;
      Pause();
    }
    if (LoadRelaxed(&views.header(views.rank)->lost) != 0 || LoadRelaxed(&views.words->stop) != 0 ||
        Nanoseconds() - start > views.patience_ns)
      return false;
  }
}

/// One block's part of an exchange. Every thread of the block calls each function.
class Meeting {
 public:
  __device__ explicit Meeting(const PeerViews& views) : views_(views) {
    __shared__ uint64_t number;
    PeerHeader& own = *views.header(views.rank);
    if (threadIdx.x == 0) {
      number = LoadRelaxed(&own.lost) != 0 ? 0 : own.exchange[blockIdx.x] + 1;
      own.exchange[blockIdx.x] = number;
    }
    __syncthreads();
    exchange_ = number;
    // The first block counts for those that this grid does not have.
    const unsigned absent = gridDim.x + threadIdx.x;
    if (blockIdx.x == 0 && absent < kMostBlocks) own.exchange[absent] = number;
  }

  /// False: the group is lost, and the kernel must end and leave the others alone.
  __device__ bool begun() const { return exchange_ != 0; }
  __device__ uint64_t exchange() const { return exchange_; }

  /// Returns when every rank's block has called it. False: one did not, and the kernel must end.
  __device__ bool AllCame(int meeting) const {
    __shared__ int all;
    __syncthreads();
    if (threadIdx.x < 32) {
      const int peer = static_cast<int>(threadIdx.x);
      const bool other = peer < views_.world && peer != views_.rank;
      if (other) StoreRelease(&views_.header(peer)->came[meeting][blockIdx.x][views_.rank], exchange_);
      __syncwarp();  // says that it came to all before it waits for any
      const bool came =
          !other || WaitFor(views_, &views_.header(views_.rank)->came[meeting][blockIdx.x][peer], exchange_);
      if (!came) {
        StoreRelaxed(&views_.header(views_.rank)->lost, 1);
        StoreRelaxed(&views_.words->missing, static_cast<uint32_t>(peer) + 1);
      }
      const int together = __all_sync(0xffffffffu, came);
      if (threadIdx.x == 0) all = together;
    }
    __syncthreads();
    return all != 0;
  }

 private:
  const PeerViews& views_;
  uint64_t exchange_;
};

}  // namespace internvl::cuda
