// A group of ranks with a CUDA device each, or that share one: which ways their tensors take, and what
// happens when a rank is lost.
#pragma once

#include <functional>
#include <memory>

#include "../backend.h"
#include "group_watch.h"
#include "nccl_group.h"
#include "peer_exchange.h"
#include "pinned_memory.h"

namespace internvl::cuda {

class CudaGroup final : public DeviceGroup {
 public:
  /// On the calling thread's device. Null where no way is open to all ranks; see Backend::JoinGroup.
  /// `scratch` is the stream's.
  static std::unique_ptr<CudaGroup> Join(Collective& links, cudaStream_t stream, Arena& scratch,
                                         std::string& left_out);
  /// Waits for what is under way.
  ~CudaGroup() override;

  void AllReduce(const Tensor& x) override;
  void AllGatherColumns(const Tensor& x, const Tensor& out) override;
  std::string path() const override;
  bool can_record() const override { return true; }

  /// While it lives, its thread waits for the device.
  GroupWatch::Wait Waiting() { return GroupWatch::Wait(*watch_); }
  /// After such a wait: throws CollectiveFailure when a kernel has given up, or was made to.
  void CheckRanks(const char* what);
  /// `left` is called when this is destroyed.
  void OnLeaving(std::function<void()> left) { left_ = std::move(left); }

 private:
  // Beyond that NCCL's rings use the links between devices better than kernels of a few blocks do.
  static constexpr int64_t kPeerBytes = int64_t{1} << 20;

  CudaGroup(Collective& links, cudaStream_t stream);

  /// Opens the ranks' memory to each other and tries it. Why it is not used; empty: it is. The same on every
  /// rank. Throws CollectiveFailure, as ConnectNccl does.
  std::string ConnectPeers(Arena& scratch);
  std::string ConnectNccl(Arena& scratch);
  void Try(PeerExchange& peers, Arena& scratch);
  /// The first rank's refusal, if any has one: all ranks decide alike.
  static std::string AnyRefusal(Collective& links, const std::string& mine);
  void Watch();

  LossWords& words() { return *reinterpret_cast<LossWords*>(pinned_.data()); }
  bool ByPeers(const Tensor& x) const { return peers_ && (!nccl_ || x.bytes() <= kPeerBytes); }
  template <typename F>
  void Exchange(const char* what, F&& f);

  Collective& links_;
  const cudaStream_t stream_;
  PinnedMemory pinned_{sizeof(LossWords)};
  std::unique_ptr<PeerMemory> memory_;
  std::unique_ptr<PeerExchange> peers_;
  std::unique_ptr<NcclGroup> nccl_;
  std::unique_ptr<GroupWatch> watch_;  // last: it stops the others
  std::function<void()> left_;
};

}  // namespace internvl::cuda
