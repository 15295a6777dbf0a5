#include "tensor_table.h"

#include <new>
#include <utility>

namespace internvl {
namespace {

constexpr int64_t kMaxSlots = int64_t{1} << 24;
constexpr int64_t kMaxGeneration = (int64_t{1} << 28) - 1;

}  // namespace

int64_t TensorTable::TakeSlot(const Tensor& tensor, bool persistent) {
  if (free_slots_.empty()) {
    if (static_cast<int64_t>(slots_.size()) == kMaxSlots) throw std::bad_alloc();
    slots_.emplace_back();
    free_slots_.reserve(slots_.size());  // so that giving a slot back cannot fail
    free_slots_.push_back(static_cast<int64_t>(slots_.size()) - 1);
  }
  const int64_t index = free_slots_.back();
  free_slots_.pop_back();
  Slot& slot = slots_[index];
  slot.tensor = tensor;
  slot.alive = true;
  slot.persistent = persistent;
  slot.values.clear();
  return index;
}

void TensorTable::GiveSlot(int64_t index) {
  Slot& slot = slots_[index];
  slot.alive = false;
  slot.tensor = {};
  slot.generation = slot.generation == kMaxGeneration ? 1 : slot.generation + 1;
  free_slots_.push_back(index);
}

int64_t TensorTable::Allocate(DType dtype, std::span<const int64_t> shape) {
  Tensor tensor{.dtype = dtype, .dims = static_cast<int>(shape.size())};
  for (size_t d = 0; d < shape.size(); ++d) tensor.shape[d] = shape[d];
  Memory memory(*memory_, static_cast<size_t>(tensor.bytes()));
  tensor.data = memory.data();
  const int64_t index = TakeSlot(tensor, true);
  persistent_.emplace(index, std::move(memory));
  persistent_bytes_ += tensor.bytes();
  return slots_[index].generation * kMaxSlots + index;
}

bool TensorTable::Free(int64_t handle) {
  const Tensor* tensor = Find(handle);
  const int64_t index = handle % kMaxSlots;
  if (tensor == nullptr || !slots_[index].persistent) return false;
  persistent_bytes_ -= tensor->bytes();
  persistent_.erase(index);
  GiveSlot(index);
  return true;
}

int64_t TensorTable::Push(DType dtype, int64_t rows, int64_t cols) {
  const Arena::Position before = arena_->position();
  Tensor tensor{.dtype = dtype, .dims = 2, .shape = {rows, cols}};
  tensor.data = arena_->Allocate(static_cast<size_t>(tensor.bytes()));
  const int64_t index = TakeSlot(tensor, false);
  stack_.push_back({index, before});
  return slots_[index].generation * kMaxSlots + index;
}

int64_t TensorTable::PushValues(std::span<const int32_t> values) {
  const int64_t handle = Push(DType::kInt32, 1, static_cast<int64_t>(values.size()));
  slots_[handle % kMaxSlots].values.assign(values.begin(), values.end());
  return handle;
}

int64_t TensorTable::PushAt(const Tensor& tensor, Arena::Position top) {
  const Arena::Position before = arena_->position();
  const int64_t index = TakeSlot(tensor, false);
  stack_.push_back({index, before});
  arena_->Rewind(top);
  return slots_[index].generation * kMaxSlots + index;
}

std::span<const int32_t> TensorTable::Values(int64_t handle) const {
  if (Find(handle) == nullptr) return {};
  return slots_[handle % kMaxSlots].values;
}

bool TensorTable::Release(int64_t mark) {
  if (mark > Mark()) return false;
  while (Mark() > mark) {
    arena_->Rewind(stack_.back().before);
    GiveSlot(stack_.back().slot);
    stack_.pop_back();
  }
  return true;
}

const Tensor* TensorTable::Find(int64_t handle) const {
  if (handle < kMaxSlots) return nullptr;
  const int64_t index = handle % kMaxSlots;
  if (index >= static_cast<int64_t>(slots_.size())) return nullptr;
  const Slot& slot = slots_[index];
  return slot.alive && slot.generation == handle / kMaxSlots ? &slot.tensor : nullptr;
}

}  // namespace internvl
