// Collectives by NCCL, for ranks that have a device each, on one machine or several.
#pragma once

#include <chrono>
#include <mutex>
#include <optional>
#include <string>

#include "../collective.h"
#include "../memory.h"
#include "../tensor.h"
#include "exchange_marks.h"
#include "nccl.h"

namespace internvl::cuda {

/// Calls come from one thread, Abort and Lost also from another. Throws DeviceError.
class NcclGroup {
 public:
  /// Every rank at the same time, with the id that one of them made. `links` are watched while ranks connect;
  /// `scratch` is the stream's.
  NcclGroup(const Collective& links, const nccl::Id& id, cudaStream_t stream, Arena& scratch);
  ~NcclGroup();
  NcclGroup(const NcclGroup&) = delete;
  NcclGroup& operator=(const NcclGroup&) = delete;

  /// NCCL sums bfloat16 in bfloat16, once more rounded at every hop; so it gets float32 only.
  void AllReduce(const Tensor& x);
  void AllGatherColumns(const Tensor& x, const Tensor& out);
  /// Why a rank is lost, as far as NCCL knows or is waited for: what it says, or an exchange that has begun
  /// on this rank and not ended within the group's timeout. However long the device computes meanwhile says
  /// nothing. Asked now and then by one thread.
  std::string Lost(std::chrono::steady_clock::time_point now);
  /// Ends what waits on the device for a rank that does not come. Nothing works from then on.
  void Abort();

 private:
  /// A call, and what it leaves to do: a communicator that does not block may still be connecting.
  template <typename F>
  void Do(const char* what, F&& call);
  void Finish(const char* what, nccl::Status status);
  std::string Describe(nccl::Status status) const;
  [[noreturn]] void Fail(const char* what, const std::string& why);

  const nccl::Library& nccl_;
  const Collective& links_;
  const cudaStream_t stream_;
  Arena& scratch_;
  ExchangeMarks marks_;
  std::optional<uint64_t> under_way_;                      // what Lost saw last,
  std::chrono::steady_clock::time_point under_way_since_;  // and since when
  std::mutex mutex_;                                       // held while the communicator is used
  nccl::Communicator communicator_ = nullptr;              // null: aborted
};

}  // namespace internvl::cuda
