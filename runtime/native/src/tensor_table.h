// The tensors of one environment, by handle. A handle is generation * 2^24 + slot: it fits a JavaScript
// number, and a handle whose tensor is gone never names a later tensor.
#pragma once

#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

#include "memory.h"
#include "tensor.h"

namespace internvl {

class TensorTable {
 public:
  /// Results live in the arena, persistent tensors beside it in memory of the same source.
  TensorTable(MemorySource& memory, Arena& arena) : memory_(&memory), arena_(&arena) {}

  /// A zeroed tensor that lives until Free.
  int64_t Allocate(DType dtype, std::span<const int64_t> shape);
  /// False when the handle names no persistent tensor.
  bool Free(int64_t handle);
  /// An uninitialised [rows, cols] tensor in the arena, alive until Release.
  int64_t Push(DType dtype, int64_t rows, int64_t cols);
  /// An int32 [1, n] tensor in the arena whose values are known: the caller puts them there too.
  int64_t PushValues(std::span<const int32_t> values);
  /// A tensor whose memory lies in the arena already, which then stands at `top`.
  int64_t PushAt(const Tensor& tensor, Arena::Position top);
  /// The values of a tensor that PushValues made; empty for any other. Valid until the next change of the
  /// table.
  std::span<const int32_t> Values(int64_t handle) const;
  /// The number of arena tensors alive, which is what Release takes back to.
  int64_t Mark() const { return static_cast<int64_t>(stack_.size()); }
  /// False when fewer tensors than `mark` are alive.
  bool Release(int64_t mark);
  /// Null when the handle is not alive. Valid until the next change of the table.
  const Tensor* Find(int64_t handle) const;

  Arena& arena() { return *arena_; }
  int64_t persistent_bytes() const { return persistent_bytes_; }
  /// No tensor was ever made.
  bool untouched() const { return slots_.empty(); }

 private:
  struct Slot {
    Tensor tensor;
    int64_t generation = 1;
    bool alive = false;
    bool persistent = false;
    std::vector<int32_t> values;  // keeps its memory from tensor to tensor
  };
  struct StackEntry {
    int64_t slot;
    Arena::Position before;  // where the arena stood before this tensor
  };

  int64_t TakeSlot(const Tensor& tensor, bool persistent);
  void GiveSlot(int64_t slot);

  std::vector<Slot> slots_;
  std::vector<int64_t> free_slots_;
  std::vector<StackEntry> stack_;
  std::unordered_map<int64_t, Memory> persistent_;  // by slot
  MemorySource* memory_;
  Arena* arena_;
  int64_t persistent_bytes_ = 0;
};

}  // namespace internvl
