// How far a rank's exchanges have come, told to the host by the stream itself: whether the device waits for
// other ranks, or computes. Recorded with the exchanges, and counted on by each launch of a recording.
#pragma once

#include <optional>

#include "pinned_memory.h"
#include "system_scope.h"

namespace internvl::cuda {

/// One end of the exchanges of a stream. One thread of a kernel puts it.
struct ExchangeMark {
  uint64_t* count;  // the device's, so that no kernel reads the host's memory
  uint64_t* word;   // the host's

  __device__ void Put() const { StoreRelease(word, ++*count); }
};

class ExchangeMarks {
 public:
  ExchangeMarks();
  ~ExchangeMarks();
  ExchangeMarks(const ExchangeMarks&) = delete;
  ExchangeMarks& operator=(const ExchangeMarks&) = delete;

  /// What the exchange sends is there.
  ExchangeMark Begun() const { return {counts_, words()}; }
  ExchangeMark Ended() const { return {counts_ + 1, words() + 1}; }
  /// By a kernel of its own, where no other one could do it.
  static void Put(const ExchangeMark& mark, cudaStream_t stream);

  /// The number of the exchange that has begun and not ended. Any thread may ask.
  std::optional<uint64_t> UnderWay() const;

 private:
  uint64_t* words() const { return reinterpret_cast<uint64_t*>(pinned_.data()); }

  PinnedMemory pinned_{2 * sizeof(uint64_t)};
  uint64_t* counts_ = nullptr;
};

}  // namespace internvl::cuda
