// A group of ranks for tests, a process for each as in the runtime.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>

#include "../../src/collective.h"
#include "../../src/cuda/cuda_group.h"
#include "../../src/cuda/device_memory.h"
#include "../../src/memory.h"

namespace internvl::cuda {

/// What a rank's process has.
struct TestRank {
  TestRank(int rank, int world, std::chrono::milliseconds timeout);
  ~TestRank();

  /// Its group; null: by way of the host, and left_out says why.
  CudaGroup* Join();

  const int rank, world;
  Collective links;
  cudaStream_t stream = nullptr;
  DeviceMemory source;
  Arena arena{source};
  std::unique_ptr<CudaGroup> group;
  std::string left_out;
};

/// Runs `body` in a process for each rank, connected, and counts as one check that all end well: a process
/// that ends with failed checks, by a signal that `may_die` does not expect of its rank, or late has not.
void RunRanks(const std::string& what, int world, std::chrono::milliseconds timeout,
              const std::function<void(TestRank&)>& body, int may_die = -1);

}  // namespace internvl::cuda
