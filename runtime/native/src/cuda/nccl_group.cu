#include <algorithm>
#include <chrono>
#include <thread>
#include <utility>

#include "nccl_group.h"
#include "packs.h"
#include "wide_words.h"

namespace internvl::cuda {
namespace {

constexpr std::chrono::milliseconds kAskEvery{1};
/// NCCL looks at the machine, opens connections and measures; a rank that dies meanwhile is noticed at once.
constexpr std::chrono::seconds kConnectLimit{60};
constexpr int kThreads = 256, kMostGrid = 1024;

unsigned Grid(int64_t items) {
  return static_cast<unsigned>(std::clamp<int64_t>((items + kThreads - 1) / kThreads, 1, kMostGrid));
}

// 64 bits: a prompt's tensor may have more elements than an int counts to once ranks are multiplied in.
__device__ int64_t First() { return static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; }
__device__ int64_t Step() { return static_cast<int64_t>(gridDim.x) * blockDim.x; }

__global__ void WidenAll(const BFloat16* x, float* wide, int64_t count, ExchangeMark begun) {
  if (First() == 0) begun.Put();
  for (int64_t i = First(); i < count; i += Step()) wide[i] = FromBits(x[i].bits);
}

__global__ void NarrowAll(const float* wide, BFloat16* x, int64_t count, ExchangeMark ended) {
  if (First() == 0) ended.Put();
  for (int64_t i = First(); i < count; i += Step())
    x[i].bits = __bfloat16_as_ushort(__float2bfloat16_rn(wide[i]));
}

/// gathered [world, rows, width] -> out [rows, world * width]
__global__ void Interleave(const float* gathered, float* out, int world, int64_t rows, int64_t width,
                           ExchangeMark ended) {
  if (First() == 0) ended.Put();
  for (int64_t i = First(); i < rows * width; i += Step()) {
    const int64_t row = i / width, column = i % width;
    for (int from = 0; from < world; ++from)
      out[(row * world + from) * width + column] = gathered[from * rows * width + i];
  }
}

}  // namespace

template <typename F>
void NcclGroup::Do(const char* what, F&& call) {
  const std::lock_guard lock(mutex_);
  if (communicator_ == nullptr) Fail(what, "the communicator was aborted");
  Finish(what, call());
}

void NcclGroup::Finish(const char* what, nccl::Status status) {
  const auto deadline = std::chrono::steady_clock::now() + kConnectLimit;
  while (status == nccl::Status::kInProgress) {
    if (const auto gone = links_.GonePeer())
      Fail(what, "rank " + std::to_string(*gone) + " has closed its connection");
    if (std::chrono::steady_clock::now() > deadline)
      Fail(what, "NCCL has not connected the ranks within " + std::to_string(kConnectLimit.count()) +
                     " s; NCCL_DEBUG=INFO says what it tries");
    std::this_thread::sleep_for(kAskEvery);
    const nccl::Status asked = nccl_.CommGetAsyncError(communicator_, &status);
    if (asked != nccl::Status::kSuccess) status = asked;
  }
  if (status == nccl::Status::kSuccess) return;
  Fail(what, Describe(status));
}

std::string NcclGroup::Describe(nccl::Status status) const {
  const std::string detail = nccl_.GetLastError(communicator_);
  return std::string("NCCL: ") + nccl_.GetErrorString(status) + (detail.empty() ? "" : " (" + detail + ")");
}

void NcclGroup::Fail(const char* what, const std::string& why) {
  if (communicator_ != nullptr) nccl_.CommAbort(std::exchange(communicator_, nullptr));
  throw DeviceError(std::string(what) + ": " + why);
}

NcclGroup::NcclGroup(const Collective& links, const nccl::Id& id, cudaStream_t stream, Arena& scratch)
    : nccl_(nccl::Load()), links_(links), stream_(stream), scratch_(scratch) {
  nccl::Config config;
  config.blocking = 0;
  Finish("connecting the ranks",
         nccl_.CommInitRankConfig(&communicator_, links.world_size(), id, links.rank(), &config));
}

// Not destroyed in peace: that waits for the other ranks, and they may have gone already.
NcclGroup::~NcclGroup() { Abort(); }

void NcclGroup::Abort() {
  const std::lock_guard lock(mutex_);
  if (communicator_ != nullptr) nccl_.CommAbort(std::exchange(communicator_, nullptr));
}

std::string NcclGroup::Lost(std::chrono::steady_clock::time_point now) {
  // Whoever holds it is about to hear from NCCL itself.
  if (const std::unique_lock lock(mutex_, std::try_to_lock); lock && communicator_ != nullptr) {
    nccl::Status status = nccl::Status::kSuccess;
    const nccl::Status asked = nccl_.CommGetAsyncError(communicator_, &status);
    if (asked != nccl::Status::kSuccess) status = asked;
    if (status != nccl::Status::kSuccess && status != nccl::Status::kInProgress) return Describe(status);
  }
  if (const auto under_way = marks_.UnderWay(); under_way != under_way_ || !under_way) {
    under_way_ = under_way;
    under_way_since_ = now;
  }
  if (now - under_way_since_ <= links_.timeout()) return "";
  return "an exchange has waited for " + std::to_string(links_.timeout().count()) +
         " ms: a rank of the group does not come to it";
}

void NcclGroup::AllReduce(const Tensor& x) {
  const int64_t count = x.elements();
  const auto reduce = [&](float* values) {
    Do("allReduce", [&] {
      return nccl_.AllReduce(values, values, static_cast<size_t>(count), nccl::Type::kFloat32,
                             nccl::Reduction::kSum, communicator_, stream_);
    });
  };
  if (x.dtype == DType::kFloat32) {
    ExchangeMarks::Put(marks_.Begun(), stream_);
    reduce(x.as<float>());
    ExchangeMarks::Put(marks_.Ended(), stream_);
    return;
  }
  Scratch scratch(scratch_);
  float* wide = scratch.Get<float>(count);
  Launch(WidenAll, Grid(count), kThreads, 0, stream_, x.as<BFloat16>(), wide, count, marks_.Begun());
  reduce(wide);
  Launch(NarrowAll, Grid(count), kThreads, 0, stream_, wide, x.as<BFloat16>(), count, marks_.Ended());
}

void NcclGroup::AllGatherColumns(const Tensor& x, const Tensor& out) {
  Scratch scratch(scratch_);
  float* gathered = scratch.Get<float>(x.elements() * links_.world_size());
  ExchangeMarks::Put(marks_.Begun(), stream_);
  Do("allGatherColumns", [&] {
    return nccl_.AllGather(x.data, gathered, static_cast<size_t>(x.elements()), nccl::Type::kFloat32,
                           communicator_, stream_);
  });
  Launch(Interleave, Grid(x.elements()), kThreads, 0, stream_, gathered, out.as<float>(), links_.world_size(),
         x.rows(), x.cols(), marks_.Ended());
}

}  // namespace internvl::cuda
