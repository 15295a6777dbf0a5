// One call from JavaScript: its environment's state and its checked arguments. Every getter throws a
// TypeError or RangeError that names the operation and the operand; operations check everything before they
// touch memory.
#pragma once

#define NAPI_HAS_THREADS 1
#include <napi.h>

#include <cstdint>
#include <initializer_list>
#include <memory>
#include <span>
#include <string>

#include "backend.h"
#include "recordings.h"
#include "tensor.h"
#include "tensor_table.h"

namespace internvl {

class CheckpointFiles;
class Collective;

/// Everything that belongs to one JavaScript environment (a thread of the process).
struct Environment {
  Environment();
  ~Environment();

  HostMemory host_memory;
  Arena host_arena;                  // working memory of operations on values that JavaScript has
  std::unique_ptr<Backend> backend;  // the CPU until useDevice
  TensorTable tensors;
  Recordings recordings;
  Readings readings;
  std::unique_ptr<CheckpointFiles> files;
  std::unique_ptr<Collective> collective;     // null: no group, or world size 1
  std::unique_ptr<DeviceGroup> device_group;  // null: tensors go by way of the host
  int64_t nanoseconds = 0;                    // spent inside the functions so far
};

/// A tensor just made in the arena.
struct Result {
  Tensor tensor;
  Napi::Value handle;
};

class Call {
 public:
  Call(const Napi::CallbackInfo& info, Environment& environment, const char* op)
      : environment(environment), info_(info), op_(op) {}

  // --- arguments by position
  int64_t Integer(int index, const char* name, int64_t min, int64_t max = int64_t{1} << 40) const;
  double Number(int index, const char* name) const;
  std::string Text(int index, const char* name) const;
  DType Type(int index, const char* name, std::initializer_list<DType> allowed) const;
  std::span<uint8_t> Bytes(int index, const char* name) const;
  std::span<int32_t> Int32s(int index, const char* name) const;
  std::span<float> Float32s(int index, const char* name) const;
  Napi::Array List(int index, const char* name) const;
  bool IsNull(int index) const { return info_[index].IsNull(); }

  // --- tensors
  int64_t Handle(int index, const char* name) const;
  Tensor Any(int index, const char* name) const;
  /// float32 or bfloat16, two dimensions.
  Tensor Matrix(int index, const char* name) const;
  /// The same, or int8 or float8.
  Tensor Weight(int index, const char* name) const;
  Tensor MatrixOf(int index, const char* name, DType dtype) const;
  /// A matrix of the given dtype with so many columns (-1: any).
  Tensor MatrixOf(int index, const char* name, DType dtype, int64_t rows, int64_t cols) const;
  /// float32 or bfloat16, one dimension, `size` elements.
  Tensor Vector(int index, const char* name, int64_t size) const;
  /// int32 values that `indices` took from JavaScript.
  Indices Values(int index, const char* name) const;

  /// A [rows, cols] tensor in the arena. Made before any Scratch of the operation, which would take its
  /// memory back.
  Result Make(DType dtype, int64_t rows, int64_t cols) const;

  // --- failures: "<op>: <message>"
  [[noreturn]] void FailType(const std::string& message) const;
  [[noreturn]] void FailRange(const std::string& message) const;

  Backend& backend() const { return *environment.backend; }
  Napi::Env env() const { return info_.Env(); }
  Napi::Value operator[](int index) const { return info_[index]; }
  const char* op() const { return op_; }

  Environment& environment;

 private:
  const Napi::CallbackInfo& info_;
  const char* op_;
};

/// Throws a RangeError unless the condition holds. A macro, so that the message is only built when it is
/// needed.
#define REQUIRE(call, condition, message)        \
  do {                                           \
    if (!(condition)) (call).FailRange(message); \
  } while (false)

}  // namespace internvl
