// What ranks with devices tell each other before they choose their ways.
#pragma once

#include <cuda_runtime.h>

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace internvl::cuda {

/// As it is sent: plain bytes.
struct RankIntroduction {
  std::array<char, 40> machine{};  // of its kernel's start: containers on one machine have the same
  uint64_t process = 0;            // random
  std::array<char, 32> device{};   // its place on the machine's bus
  int32_t nccl = 0;                // version; 0: none
  cudaIpcMemHandle_t memory{};     // where it is open to others

  /// Of the calling process and its current device. Throws DeviceError.
  static RankIntroduction Mine();
};

/// Why these ranks' processes cannot open memory to each other; empty: they may try.
std::string WhyNoPeerMemory(std::span<const RankIntroduction> ranks);
/// Why NCCL does not go for these ranks; empty: it does where all have it.
std::string WhyNoNccl(std::span<const RankIntroduction> ranks);

}  // namespace internvl::cuda
