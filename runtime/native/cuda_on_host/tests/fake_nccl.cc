// A libnccl.so.2 for tests: sums and gathers through a file in shared memory, queued on the emulation's
// streams by the program that loads it. Like the real one it waits for ever for a rank that does not come,
// until the communicator is aborted.
#include <dlfcn.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "../../src/cuda/nccl.h"

namespace {

using internvl::cuda::nccl::Config;
using internvl::cuda::nccl::Id;
using internvl::cuda::nccl::Reduction;
using internvl::cuda::nccl::Status;
using internvl::cuda::nccl::Type;

constexpr int kMostRanks = 8;
constexpr size_t kSlotFloats = size_t{4} << 20;

struct SharedFile {
  std::atomic<int> joined, arrived;
  std::atomic<unsigned> round;
  float slots[kMostRanks][kSlotFloats];
};

struct Communicator {
  SharedFile* shared;
  int rank, world;
  std::atomic<bool> aborted{false};

  bool Barrier() {
    const unsigned round = shared->round;
    if (++shared->arrived == world) {
      shared->arrived = 0;
      ++shared->round;
    }
    while (shared->round == round) {
      if (aborted) return false;
      sched_yield();
    }
    return true;
  }
};

/// Queues on a stream of the program's emulation.
void Enqueue(cudaStream_t stream, std::function<void()> work) {
  using Function = void (*)(cudaStream_t, std::function<void()>);
  static const auto enqueue = reinterpret_cast<Function>(dlsym(RTLD_DEFAULT, "EnqueueForFakeNccl"));
  enqueue(stream, std::move(work));
}

}  // namespace

extern "C" {

Status ncclGetVersion(int* version) {
  *version = 22703;
  return Status::kSuccess;
}

Status ncclGetUniqueId(Id* id) {
  const std::string name = "/fake-nccl-" + std::to_string(getpid());
  std::strcpy(id->bytes, name.c_str());
  shm_unlink(id->bytes);  // of a process that had the number before
  const int file = shm_open(id->bytes, O_RDWR | O_CREAT | O_EXCL, 0600);
  const bool made = file >= 0 && ftruncate(file, sizeof(SharedFile)) == 0;
  close(file);
  return made ? Status::kSuccess : Status{2};
}

Status ncclCommInitRankConfig(Communicator** made, int world, Id id, int rank, Config* config) {
  if (config->blocking != 0 || config->magic != 0xcafebeef || world > kMostRanks) return Status{4};
  const int file = shm_open(id.bytes, O_RDWR, 0600);
  if (file < 0) return Status{2};
  void* mapped = mmap(nullptr, sizeof(SharedFile), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  close(file);
  if (mapped == MAP_FAILED) return Status{2};
  *made = new Communicator{static_cast<SharedFile*>(mapped), rank, world};
  if (++(*made)->shared->joined == world) shm_unlink(id.bytes);
  return Status::kInProgress;
}

Status ncclCommGetAsyncError(Communicator* communicator, Status* status) {
  *status = getenv("FAKE_NCCL_FAILS") != nullptr                  ? Status{6}
            : communicator->shared->joined == communicator->world ? Status::kSuccess
                                                                  : Status::kInProgress;
  return Status::kSuccess;
}

// What is queued still refers to it: it is never freed.
Status ncclCommAbort(Communicator* communicator) {
  communicator->aborted = true;
  return Status::kSuccess;
}

Status ncclAllGather(const void* from, void* to, size_t count, Type, Communicator* communicator,
                     cudaStream_t stream) {
  if (count > kSlotFloats) return Status{4};
  Enqueue(stream, [=] {
    auto& slots = communicator->shared->slots;
    std::memcpy(slots[communicator->rank], from, count * sizeof(float));
    if (!communicator->Barrier()) return;
    for (int rank = 0; rank < communicator->world; ++rank)
      std::memcpy(static_cast<float*>(to) + static_cast<size_t>(rank) * count, slots[rank],
                  count * sizeof(float));
    communicator->Barrier();
  });
  return Status::kSuccess;
}

Status ncclAllReduce(const void* from, void* to, size_t count, Type type, Reduction,
                     Communicator* communicator, cudaStream_t stream) {
  if (count > kSlotFloats || type != Type::kFloat32) return Status{4};
  Enqueue(stream, [=] {
    auto& slots = communicator->shared->slots;
    std::memcpy(slots[communicator->rank], from, count * sizeof(float));
    if (!communicator->Barrier()) return;
    for (size_t i = 0; i < count; ++i) {
      float sum = slots[0][i];
      for (int rank = 1; rank < communicator->world; ++rank) sum += slots[rank][i];
      static_cast<float*>(to)[i] = sum;
    }
    communicator->Barrier();
  });
  return Status::kSuccess;
}

const char* ncclGetErrorString(Status) { return "a mistake"; }
const char* ncclGetLastError(Communicator*) { return ""; }

}  // extern "C"
