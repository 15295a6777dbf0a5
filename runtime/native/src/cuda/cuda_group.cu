#include <algorithm>
#include <atomic>
#include <cstring>
#include <vector>

#include "cuda_group.h"
#include "rank_introduction.h"

namespace internvl::cuda {
namespace {

/// What fails on one rank is told to the others instead of thrown at them.
template <typename F>
std::string WhyNot(F&& f) {
  try {
    f();
  } catch (const std::bad_alloc& error) {
    return error.what();
  } catch (const DeviceError& error) {
    return error.what();
  }
  return "";
}

template <typename T>
std::vector<T> Gathered(Collective& links, const T& mine) {
  std::vector<T> all(static_cast<size_t>(links.world_size()));
  links.AllGather("connectCollective", {reinterpret_cast<const uint8_t*>(&mine), sizeof(T)},
                  {reinterpret_cast<uint8_t*>(all.data()), sizeof(T) * all.size()});
  return all;
}

}  // namespace

CudaGroup::CudaGroup(Collective& links, cudaStream_t stream) : links_(links), stream_(stream) {
  words() = {};
}

std::unique_ptr<CudaGroup> CudaGroup::Join(Collective& links, cudaStream_t stream, Arena& scratch,
                                           std::string& left_out) {
  std::unique_ptr<CudaGroup> group;
  const std::string none = WhyNot([&] { group.reset(new CudaGroup(links, stream)); });
  // Its members are missing then, and all ranks must do the same.
  if (const std::string refusal = AnyRefusal(links, none); !refusal.empty()) {
    left_out = refusal;
    return nullptr;
  }
  const std::string no_peers = group->ConnectPeers(scratch), no_nccl = group->ConnectNccl(scratch);
  const auto add = [&](const char* way, const std::string& why) {
    if (!why.empty()) left_out += (left_out.empty() ? "" : "; ") + std::string(way) + ": " + why;
  };
  add("peer memory", no_peers);
  add("NCCL", no_nccl);
  if (!group->peers_ && !group->nccl_) return nullptr;
  group->Watch();
  return group;
}

std::string CudaGroup::AnyRefusal(Collective& links, const std::string& mine) {
  using Text = std::array<char, 512>;
  Text text{};
  std::memcpy(text.data(), mine.data(), std::min(mine.size(), text.size() - 1));
  const std::vector<Text> all = Gathered(links, text);
  const auto first = std::find_if(all.begin(), all.end(), [](const Text& t) { return t[0] != '\0'; });
  return first == all.end() ? "" : "rank " + std::to_string(first - all.begin()) + ": " + first->data();
}

std::string CudaGroup::ConnectPeers(Arena& scratch) {
  RankIntroduction mine;
  std::unique_ptr<PeerMemory> memory;
  const std::string closed = WhyNot([&] {
    mine = RankIntroduction::Mine();
    if (links_.world_size() > kMostRanks) return;
    memory = std::make_unique<PeerMemory>(links_.rank(), links_.world_size(), &words(), links_.timeout());
    mine.memory = memory->handle();
  });
  if (std::string why = AnyRefusal(links_, closed); !why.empty()) return why;
  const auto ranks = Gathered(links_, mine);
  if (std::string why = WhyNoPeerMemory(ranks); !why.empty()) return why;
  const std::string shut = WhyNot([&] {
    for (int peer = 0; peer < links_.world_size(); ++peer) {
      if (peer != links_.rank()) memory->Open(peer, ranks[static_cast<size_t>(peer)].memory);
    }
  });
  if (std::string why = AnyRefusal(links_, shut); !why.empty()) return why;
  auto peers = std::make_unique<PeerExchange>(*memory, stream_);
  // What can be opened need not work: an exchange is tried.
  if (std::string why = AnyRefusal(links_, WhyNot([&] { Try(*peers, scratch); })); !why.empty()) {
    words() = {};
    return why;
  }
  memory_ = std::move(memory);
  peers_ = std::move(peers);
  return "";
}

void CudaGroup::Try(PeerExchange& peers, Arena& scratch) {
  constexpr int64_t kValues = 1024;
  const int world = links_.world_size();
  Scratch working(scratch);
  const Tensor x{DType::kFloat32, 2, {1, kValues}, working.Get<float>(kValues)};
  std::vector<float> values(kValues);
  for (int64_t i = 0; i < kValues; ++i)
    values[static_cast<size_t>(i)] = static_cast<float>(i + links_.rank());
  const auto bytes = static_cast<size_t>(x.bytes());
  Check(cudaMemcpyAsync(x.data, values.data(), bytes, cudaMemcpyHostToDevice, stream_), "an exchange");
  peers.AllReduce(x);
  Check(cudaMemcpyAsync(values.data(), x.data, bytes, cudaMemcpyDeviceToHost, stream_), "an exchange");
  Check(cudaStreamSynchronize(stream_), "an exchange");
  for (int64_t i = 0; i < kValues; ++i) {
    const auto sum = static_cast<float>(world * i + world * (world - 1) / 2);
    if (words().missing != 0 || values[static_cast<size_t>(i)] != sum)
      throw DeviceError("the memory of the others was opened, but an exchange through it failed");
  }
}

std::string CudaGroup::ConnectNccl(Arena& scratch) {
  RankIntroduction mine;
  nccl::Id id{};
  const std::string missing = WhyNot([&] {
    mine = RankIntroduction::Mine();
    nccl::Load().GetVersion(&mine.nccl);
    if (links_.rank() == 0 && nccl::Load().GetUniqueId(&id) != nccl::Status::kSuccess)
      throw DeviceError("NCCL makes no id: NCCL_DEBUG=INFO says why");
  });
  if (std::string why = WhyNoNccl(Gathered(links_, mine)); !why.empty()) return why;
  if (std::string why = AnyRefusal(links_, missing); !why.empty()) return why;
  links_.Broadcast({reinterpret_cast<uint8_t*>(&id), sizeof(id)}, 0);
  const std::string failed =
      WhyNot([&] { nccl_ = std::make_unique<NcclGroup>(links_, id, stream_, scratch); });
  std::string why = AnyRefusal(links_, failed);
  if (!why.empty()) nccl_.reset();
  return why;
}

void CudaGroup::Watch() {
  const auto stop = [this] {
    std::atomic_ref(words().stop).store(1, std::memory_order_relaxed);
    if (nccl_) nccl_->Abort();
  };
  // Kernels of our own know when to give up; NCCL's wait for ever.
  GroupWatch::Lost lost;
  if (nccl_) lost = [this](GroupWatch::Clock::time_point now) { return nccl_->Lost(now); };
  watch_ = std::make_unique<GroupWatch>(links_, stop, std::move(lost));
}

// Nothing that runs may find its memory gone. The watch ends what would wait for ever.
CudaGroup::~CudaGroup() {
  if (watch_) {
    const GroupWatch::Wait wait(*watch_);
    cudaStreamSynchronize(stream_);
  }
  if (left_) left_();
}

std::string CudaGroup::path() const {
  return peers_ && nccl_ ? "peer memory + NCCL" : peers_ ? "peer memory" : "NCCL";
}

void CudaGroup::CheckRanks(const char* what) {
  std::string why = watch_->reason();
  if (const uint32_t missing = std::atomic_ref(words().missing).load(); why.empty() && missing != 0) {
    const auto gone = links_.GonePeer();
    why = gone ? "rank " + std::to_string(*gone) + " has closed its connection"
               : "no answer from rank " + std::to_string(missing - 1) + " within " +
                     std::to_string(links_.timeout().count()) + " ms";
  }
  if (!why.empty()) links_.Lose(what, why);
}

template <typename F>
void CudaGroup::Exchange(const char* what, F&& f) {
  CheckRanks(what);
  try {
    f();
  } catch (const DeviceError& error) {
    links_.Lose(what, error.what());
  }
}

void CudaGroup::AllReduce(const Tensor& x) {
  Exchange("allReduce", [&] {
    if (ByPeers(x)) {
      peers_->AllReduce(x);
    } else {
      nccl_->AllReduce(x);
    }
  });
}

void CudaGroup::AllGatherColumns(const Tensor& x, const Tensor& out) {
  Exchange("allGatherColumns", [&] {
    if (ByPeers(x)) {
      peers_->AllGatherColumns(x, out);
    } else {
      nccl_->AllGatherColumns(x, out);
    }
  });
}

}  // namespace internvl::cuda
