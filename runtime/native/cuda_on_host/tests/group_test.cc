// Exchanges of tensors between ranks on the emulation, whose processes open each other's memory as a device's
// do: against plain sums, recorded, many times over, and with ranks that die or stand still.
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include <cstring>
#include <thread>
#include <vector>

#include "../streams.h"
#include "expect.h"
#include "rank_processes.h"

namespace internvl::cuda {
namespace {

using std::chrono::milliseconds;
using Clock = std::chrono::steady_clock;

/// The runtime's own, and one for ranks that are only slow: the machine may have other work.
constexpr milliseconds kTimeout{4000}, kPatience{60'000};

/// Of both signs and several magnitudes: sums depend on their order.
float Value(int rank, int64_t i, int round) {
  uint64_t bits = static_cast<uint64_t>(i) * 0x9e3779b97f4a7c15u + static_cast<uint64_t>(rank) * 0x1234567u +
                  static_cast<uint64_t>(round) * 0xabcdef1u;
  bits ^= bits >> 29;
  bits *= 0xbf58476d1ce4e5b9u;
  bits ^= bits >> 32;
  const float unit = static_cast<float>(bits & 0xffffff) / 8388608.0f - 1.0f;
  return unit * static_cast<float>(1 << (bits >> 24 & 7));
}

template <typename T>
std::vector<T> Inputs(int rank, int64_t count, int round) {
  std::vector<T> values(static_cast<size_t>(count));
  for (int64_t i = 0; i < count; ++i) values[static_cast<size_t>(i)] = FromFloat<T>(Value(rank, i, round));
  return values;
}

/// In rank order, rounded once: every rank must have exactly this.
template <typename T>
std::vector<T> Sums(int world, int64_t count, int round) {
  std::vector<T> sums(static_cast<size_t>(count));
  for (int64_t i = 0; i < count; ++i) {
    float sum = Rounded<T>(Value(0, i, round));
    for (int rank = 1; rank < world; ++rank) sum += Rounded<T>(Value(rank, i, round));
    sums[static_cast<size_t>(i)] = FromFloat<T>(sum);
  }
  return sums;
}

template <typename T>
bool Same(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0;
}

/// A tensor of the device.
template <typename T>
class OnDevice {
 public:
  OnDevice(int64_t rows, int64_t cols) {
    Check(cudaMalloc(&tensor_.data, static_cast<size_t>(rows * cols) * sizeof(T)), "cudaMalloc");
    tensor_.dtype = sizeof(T) == 4 ? DType::kFloat32 : DType::kBFloat16;
    tensor_.dims = 2;
    tensor_.shape = {rows, cols};
  }
  ~OnDevice() { cudaFree(tensor_.data); }
  OnDevice(const OnDevice&) = delete;

  const Tensor& tensor() const { return tensor_; }
  void Write(const std::vector<T>& values, cudaStream_t stream) {
    Check(cudaMemcpyAsync(tensor_.data, values.data(), Bytes(), cudaMemcpyHostToDevice, stream), "write");
  }
  std::vector<T> Read(TestRank& rank) {
    std::vector<T> values(static_cast<size_t>(tensor_.elements()));
    {
      const auto wait = rank.group->Waiting();
      Check(cudaMemcpyAsync(values.data(), tensor_.data, Bytes(), cudaMemcpyDeviceToHost, rank.stream),
            "read");
    }
    rank.group->CheckRanks("read");
    return values;
  }

 private:
  size_t Bytes() const { return static_cast<size_t>(tensor_.elements()) * sizeof(T); }

  Tensor tensor_;
};

template <typename T>
void SumOf(TestRank& rank, int64_t count, int round) {
  OnDevice<T> x(1, count);
  x.Write(Inputs<T>(rank.rank, count, round), rank.stream);
  rank.group->AllReduce(x.tensor());
  Expect(Same(x.Read(rank), Sums<T>(rank.world, count, round)),
         "the sum of " + std::to_string(count) + " values of " + std::to_string(sizeof(T)) + " bytes over " +
             std::to_string(rank.world) + " ranks");
}

void ManySizes(TestRank& rank) {
  if (rank.Join() == nullptr) return Expect(false, "no way for tensors: " + rank.left_out);
  Expect(rank.group->path() == "peer memory", "the way is " + rank.group->path());
  const int64_t slot = kSlotBytes / 4, at_once = 2 * slot / rank.world, piece = slot * rank.world;
  const int64_t counts[] = {
      1,     2,           3,       7,           8,    9,        63,        1000,  4097,      7168,
      28673, at_once - 1, at_once, at_once + 1, slot, slot + 1, piece - 1, piece, piece + 1, 2 * piece + 5};
  int round = 0;
  for (const int64_t count : counts) {
    SumOf<float>(rank, count, ++round);
    SumOf<BFloat16>(rank, count, ++round);
    SumOf<BFloat16>(rank, 2 * count + 1, ++round);
  }
}

void SideBySide(TestRank& rank) {
  const std::pair<int64_t, int64_t> shapes[] = {{1, 1}, {3, 5}, {7, 64}, {32, 1001}, {1, 32032}, {12, 32032}};
  int round = 0;
  for (const auto& [rows, cols] : shapes) {
    ++round;
    OnDevice<float> x(rows, cols), out(rows, cols * rank.world);
    x.Write(Inputs<float>(rank.rank, rows * cols, round), rank.stream);
    rank.group->AllGatherColumns(x.tensor(), out.tensor());
    std::vector<float> expected(static_cast<size_t>(rows * cols * rank.world));
    for (int64_t i = 0; i < rows * cols * rank.world; ++i) {
      const int64_t row = i / (cols * rank.world), column = i % (cols * rank.world);
      expected[static_cast<size_t>(i)] =
          Value(static_cast<int>(column / cols), row * cols + column % cols, round);
    }
    Expect(Same(out.Read(rank), expected),
           "columns of [" + std::to_string(rows) + ", " + std::to_string(cols) + "]");
  }
}

void Columns(TestRank& rank) {
  if (rank.Join() == nullptr) return Expect(false, "no way for tensors: " + rank.left_out);
  SideBySide(rank);
}

void Recorded(TestRank& rank) {
  if (rank.Join() == nullptr) return Expect(false, "no way for tensors: " + rank.left_out);
  constexpr int64_t kRows = 2, kCols = 300, kMany = 9000;
  OnDevice<float> x(kRows, kCols), large(1, kMany);
  OnDevice<float> columns(kRows, kCols * rank.world);
  OnDevice<BFloat16> y(1, 77);
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t executable = nullptr;
  Check(cudaStreamBeginCapture(rank.stream, cudaStreamCaptureModeThreadLocal), "capture");
  rank.group->AllReduce(x.tensor());
  rank.group->AllReduce(y.tensor());
  rank.group->AllGatherColumns(x.tensor(), columns.tensor());
  rank.group->AllReduce(large.tensor());
  Check(cudaStreamEndCapture(rank.stream, &graph), "capture");
  Check(cudaGraphInstantiate(&executable, graph), "instantiate");
  bool right = true;
  for (int round = 0; round < 300 && right; ++round) {
    x.Write(Inputs<float>(rank.rank, kRows * kCols, round), rank.stream);
    y.Write(Inputs<BFloat16>(rank.rank, 77, round), rank.stream);
    large.Write(Inputs<float>(rank.rank, kMany, round), rank.stream);
    Check(cudaGraphLaunch(executable, rank.stream), "launch");
    if (round % 3 == 0) SumOf<float>(rank, 100 + round, round);  // beside the graph's
    const auto sums = Sums<float>(rank.world, kRows * kCols, round);
    const auto side_by_side = columns.Read(rank);
    right = Same(x.Read(rank), sums) && Same(y.Read(rank), Sums<BFloat16>(rank.world, 77, round)) &&
            Same(large.Read(rank), Sums<float>(rank.world, kMany, round));
    for (int64_t i = 0; i < kRows * kCols * rank.world; ++i) {
      const int64_t row = i / (kCols * rank.world);
      right &= side_by_side[static_cast<size_t>(i)] == sums[static_cast<size_t>(row * kCols + i % kCols)];
    }
  }
  Expect(right, "what a recorded graph exchanges");
  cudaGraphExecDestroy(executable);
  cudaGraphDestroy(graph);
}

/// Blocks that a small grid does not have count on all the same: else the two sets of slots would no longer
/// be taken in turn by all, and one be written while it is read.
void CountsAlike(TestRank& rank) {
  LossWords words{};
  PeerMemory memory(rank.rank, rank.world, &words, kPatience);
  const cudaIpcMemHandle_t mine = memory.handle();
  std::vector<cudaIpcMemHandle_t> all(static_cast<size_t>(rank.world));
  rank.links.AllGather("handles", {reinterpret_cast<const uint8_t*>(&mine), sizeof(mine)},
                       {reinterpret_cast<uint8_t*>(all.data()), sizeof(mine) * all.size()});
  for (int peer = 0; peer < rank.world; ++peer) {
    if (peer != rank.rank) memory.Open(peer, all[static_cast<size_t>(peer)]);
  }
  PeerExchange exchange(memory, rank.stream);
  OnDevice<float> x(1, kSlotBytes / 4);
  uint64_t launches = 0;
  for (const int64_t count : {1, 5000, 1, 100'000, 9, 262'144}) {
    Tensor part = x.tensor();
    part.shape[1] = count;
    exchange.AllReduce(part);
    ++launches;
  }
  PeerHeader header;
  Check(cudaStreamSynchronize(rank.stream), "wait");
  Check(cudaMemcpy(&header, memory.views().memory[rank.rank], sizeof(header), cudaMemcpyDeviceToHost),
        "read");
  for (const uint64_t count : header.exchange)
    Expect(count == launches,
           "a block has counted " + std::to_string(count) + " of " + std::to_string(launches));
  std::vector<uint8_t> done(static_cast<size_t>(rank.world));
  rank.links.AllGather("done", {done.data(), 1}, done);
}

void ManyTimes(TestRank& rank) {
  if (rank.Join() == nullptr) return Expect(false, "no way for tensors: " + rank.left_out);
  constexpr int kRounds = 3000;
  constexpr int64_t kMost = 40'000;
  OnDevice<float> x(1, kMost);
  bool right = true;
  uint32_t random = 1;  // the same on every rank
  uint32_t own = static_cast<uint32_t>(rank.rank) + 7;
  for (int round = 0; round < kRounds && right; ++round) {
    random = random * 1664525 + 1013904223;
    own = own * 1664525 + 1013904223;
    Tensor part = x.tensor();
    part.shape[1] = round % 50 == 0 ? kMost : 1 + random % 700;
    if (own >> 28 == 0) usleep(own >> 8 & 1023);  // now this rank is late, now that
    const int64_t count = part.shape[1];
    const auto inputs = Inputs<float>(rank.rank, count, round);
    Check(cudaMemcpyAsync(x.tensor().data, inputs.data(), inputs.size() * 4, cudaMemcpyHostToDevice,
                          rank.stream),
          "write");
    rank.group->AllReduce(part);
    if (round % 3 != 0) continue;  // several may be queued
    auto sums = x.Read(rank);
    sums.resize(static_cast<size_t>(count));
    right = Same(sums, Sums<float>(rank.world, count, round));
  }
  Expect(right, "sums of memory that is used again and again");
}

/// Rank `victim` calls `end` after some exchanges, in the middle of a graph's launches for the others.
void LosesOne(TestRank& rank, int victim, const std::string& message, const std::function<void()>& end) {
  if (rank.Join() == nullptr) return Expect(false, "no way for tensors: " + rank.left_out);
  OnDevice<float> x(1, 5000);
  Clock::time_point last = Clock::now();
  try {
    for (int round = 0; round < 1000; ++round) {
      if (rank.rank == victim && round == 20) end();
      last = Clock::now();
      for (int i = 0; i < 10; ++i) rank.group->AllReduce(x.tensor());
      x.Read(rank);
    }
    Expect(false, "nothing was noticed");
  } catch (const CollectiveFailure& failure) {
    const auto took = std::chrono::duration_cast<milliseconds>(Clock::now() - last);
    Expect(took < milliseconds(5000), "noticed after " + std::to_string(took.count()) + " ms");
    const std::string said = failure.what();
    Expect(said.find(message) != std::string::npos, "what is said of a lost rank: " + said);
    bool again = false;
    try {
      rank.group->AllReduce(x.tensor());
    } catch (const CollectiveFailure&) {
      again = true;
    }
    Expect(again, "a lost group stays lost");
  }
}

/// A device for each rank, and a library in the place of NCCL.
void UseNccl(TestRank& rank) {
  setenv("CUDA_ON_HOST_DEVICES", "8", 1);
  setenv("INTERNVL_CUDA_LIBRARIES", FAKE_NCCL_FOLDER, 1);
  Check(cudaSetDevice(rank.rank), "cudaSetDevice");
}

void ByBoth(TestRank& rank) {
  UseNccl(rank);
  if (rank.Join() == nullptr) return Expect(false, "no way for tensors: " + rank.left_out);
  Expect(rank.group->path() == "peer memory + NCCL" && rank.left_out.empty(),
         "both ways: " + rank.group->path() + ", " + rank.left_out);
  constexpr int64_t kMost = kSlotBytes / 4;  // of peer memory
  int round = 0;
  for (const int64_t count : {int64_t{5}, kMost, kMost + 1, 2 * kMost + 3, int64_t{6}}) {
    SumOf<float>(rank, count, ++round);
    SumOf<BFloat16>(rank, 2 * count, ++round);
  }
}

void ByNcclAlone(TestRank& rank) {
  setenv("CUDA_ON_HOST_IPC", "0", 1);
  UseNccl(rank);
  if (rank.Join() == nullptr) return Expect(false, "no way for tensors: " + rank.left_out);
  Expect(rank.group->path() == "NCCL" && rank.left_out.find("peer memory: rank 0: opening") == 0,
         "NCCL alone: " + rank.group->path() + ", " + rank.left_out);
  for (const int64_t count : {1, 7, 1000, 300000}) {
    SumOf<float>(rank, count, 1);
    SumOf<BFloat16>(rank, count, 2);
  }
  SideBySide(rank);
}

void OnlyByNccl(TestRank& rank) {
  setenv("CUDA_ON_HOST_IPC", "0", 1);
  UseNccl(rank);
  if (rank.Join() == nullptr) Expect(false, "no way for tensors: " + rank.left_out);
}

/// Work of one's own, however long, is no reason to give up: neither before, between nor after exchanges, by
/// itself or recorded.
void WorksLong(TestRank& rank) {
  OnlyByNccl(rank);
  const auto work = [&] {
    const auto takes = 3 * rank.links.timeout();
    cuda_on_host::Enqueue(rank.stream, [takes] { std::this_thread::sleep_for(takes); });
  };
  OnDevice<float> x(1, 1000);
  OnDevice<BFloat16> y(1, 77);
  work();
  SumOf<float>(rank, 1000, 1);
  SumOf<BFloat16>(rank, 1000, 2);
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t executable = nullptr;
  Check(cudaStreamBeginCapture(rank.stream, cudaStreamCaptureModeThreadLocal), "capture");
  rank.group->AllReduce(x.tensor());
  work();
  rank.group->AllReduce(y.tensor());
  work();
  Check(cudaStreamEndCapture(rank.stream, &graph), "capture");
  Check(cudaGraphInstantiate(&executable, graph), "instantiate");
  for (int round = 0; round < 2; ++round) {
    x.Write(Inputs<float>(rank.rank, 1000, round), rank.stream);
    y.Write(Inputs<BFloat16>(rank.rank, 77, round), rank.stream);
    Check(cudaGraphLaunch(executable, rank.stream), "launch");
    Expect(Same(x.Read(rank), Sums<float>(rank.world, 1000, round)) &&
               Same(y.Read(rank), Sums<BFloat16>(rank.world, 77, round)),
           "sums with long work between them");
  }
  cudaGraphExecDestroy(executable);
  cudaGraphDestroy(graph);
}

/// What NCCL notices counts at once, however patient the group is.
void HearsOfNccl(TestRank& rank) {
  OnlyByNccl(rank);
  OnDevice<float> x(1, 1000);
  const auto begin = Clock::now();
  std::string said;
  try {
    rank.group->AllReduce(x.tensor());
    if (rank.rank == 1) raise(SIGSTOP);
    setenv("FAKE_NCCL_FAILS", "1", 1);
    x.Read(rank);
  } catch (const CollectiveFailure& failure) {
    said = failure.what();
  }
  Expect(said.find("NCCL: a mistake") != std::string::npos, "what NCCL says: " + said);
  Expect(Clock::now() - begin < kPatience / 4, "heard at once");
}

void FallsBack(TestRank& rank) {
  if (rank.rank == 1) setenv("CUDA_ON_HOST_IPC", "0", 1);
  Expect(rank.Join() == nullptr, "memory that one rank cannot open is not used");
  Expect(rank.left_out.find("peer memory: rank 1: opening the memory of rank 0") != std::string::npos &&
             rank.left_out.find("NCCL: ranks 0 and 1 share one device") != std::string::npos,
         "what was left out: " + rank.left_out);
}

}  // namespace
}  // namespace internvl::cuda

/// For fake_nccl.cc.
extern "C" __attribute__((visibility("default"))) void EnqueueForFakeNccl(cudaStream_t stream,
                                                                          std::function<void()> work) {
  cuda_on_host::Enqueue(stream, std::move(work));
}

int main() {
  using namespace internvl::cuda;
  for (const int world : {2, 3, 4}) {
    RunRanks("sums", world, kPatience, ManySizes);
    RunRanks("columns", world, kPatience, Columns);
    RunRanks("by both", world, kPatience, ByBoth);
    RunRanks("by NCCL alone", world, kPatience, ByNcclAlone);
  }
  RunRanks("counts", 2, kPatience, CountsAlike);
  for (const int world : {2, 4}) {
    RunRanks("recorded", world, kPatience, Recorded);
    RunRanks("many times", world, kPatience, ManyTimes);
  }
  for (const int world : {2, 4}) {
    RunRanks(
        "a rank that dies", world, kTimeout,
        [](TestRank& rank) { LosesOne(rank, 1, "rank 1 has closed its connection", [] { raise(SIGKILL); }); },
        1);
  }
  RunRanks(
      "a rank that dies, by NCCL", 3, kTimeout,
      [](TestRank& rank) {
        setenv("CUDA_ON_HOST_IPC", "0", 1);
        UseNccl(rank);
        LosesOne(rank, 1, "rank 1 has closed its connection", [] { raise(SIGKILL); });
      },
      1);
  RunRanks(
      "a rank that stands still, by NCCL", 2, milliseconds(1500),
      [](TestRank& rank) {
        setenv("CUDA_ON_HOST_IPC", "0", 1);
        UseNccl(rank);
        LosesOne(rank, 1, "an exchange has waited for 1500 ms", [] { raise(SIGSTOP); });
      },
      1);
  RunRanks("work that takes long, by NCCL", 2, milliseconds(400), WorksLong);
  RunRanks("an error of NCCL", 2, kPatience, HearsOfNccl, 1);
  RunRanks(
      "a rank that stands still", 2, milliseconds(1500),
      [](TestRank& rank) {
        LosesOne(rank, 1, "no answer from rank 1 within 1500 ms", [] { raise(SIGSTOP); });
      },
      1);
  RunRanks("a rank that cannot open memory", 3, kTimeout, FallsBack);
  return Finish();
}
