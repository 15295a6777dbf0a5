// Allocation, the arena, and reading and writing tensors from JavaScript.
#include <cstring>

#include "../cpu/quantized_rows.h"
#include "../cpu/row_math.h"
#include "../operations.h"

namespace internvl {
namespace {

constexpr int64_t kMaxBytes = int64_t{1} << 42;

}  // namespace

Napi::Value Allocate(const Call& call) {
  const DType dtype = call.Type(
      0, "dtype",
      {DType::kFloat32, DType::kBFloat16, DType::kInt32, DType::kUint8, DType::kInt8, DType::kFloat8});
  const Napi::Array list = call.List(1, "shape");
  const uint32_t dims = list.Length();
  if (dims < 1 || dims > kMaxDims)
    call.FailRange("shape must have 1 to 4 dimensions, not " + std::to_string(dims));
  if (IsQuantized(dtype) && dims != 2)
    call.FailRange("a tensor of " + std::string(DTypeName(dtype)) + " must be a matrix");
  std::array<int64_t, kMaxDims> shape{};
  int64_t bytes = ElementBytes(dtype);
  for (uint32_t d = 0; d < dims; ++d) {
    const Napi::Value value = list.Get(d);
    const double size = value.IsNumber() ? value.As<Napi::Number>().DoubleValue() : -1;
    if (!(size >= 0 && size <= static_cast<double>(kMaxBytes) &&
          size == static_cast<double>(static_cast<int64_t>(size)))) {
      call.FailRange("shape must hold integers >= 0");
    }
    shape[d] = static_cast<int64_t>(size);
    if (shape[d] > 0 && bytes > kMaxBytes / shape[d]) call.FailRange("shape is larger than 4 TiB");
    bytes *= shape[d];
  }
  const int64_t handle = call.environment.tensors.Allocate(dtype, {shape.data(), dims});
  return Napi::Number::New(call.env(), static_cast<double>(handle));
}

Napi::Value Free(const Call& call) {
  call.Any(0, "tensor");
  if (!call.environment.tensors.Free(call.Handle(0, "tensor"))) {
    call.FailType("tensor is the result of an operation: release gives it back");
  }
  return call.env().Undefined();
}

Napi::Value ScratchTensor(const Call& call) {
  const DType dtype =
      call.Type(0, "dtype", {DType::kFloat32, DType::kBFloat16, DType::kInt32, DType::kUint8});
  const int64_t rows = call.Integer(1, "rows", 0), cols = call.Integer(2, "cols", 0);
  if (cols > 0 && rows > kMaxBytes / 4 / cols) call.FailRange("[rows, cols] is larger than 4 TiB");
  const Result result = call.Make(dtype, rows, cols);
  call.backend().Zero(result.tensor.data, static_cast<size_t>(result.tensor.bytes()));
  return result.handle;
}

Napi::Value IndicesOf(const Call& call) {
  const auto values = call.Int32s(0, "values");
  const int64_t handle = call.environment.tensors.PushValues(values);
  call.backend().Upload(call.environment.tensors.Find(handle)->data, values.data(), values.size_bytes());
  return Napi::Number::New(call.env(), static_cast<double>(handle));
}

Napi::Value Mark(const Call& call) {
  return Napi::Number::New(call.env(), static_cast<double>(call.environment.tensors.Mark()));
}

Napi::Value Release(const Call& call) {
  if (!call.environment.tensors.Release(call.Integer(0, "mark", 0))) {
    call.FailRange("mark lies above the top of the arena: it was released before");
  }
  return call.env().Undefined();
}

Napi::Value Shape(const Call& call) {
  const Tensor tensor = call.Any(0, "tensor");
  Napi::Array shape = Napi::Array::New(call.env(), static_cast<size_t>(tensor.dims));
  for (int d = 0; d < tensor.dims; ++d) {
    shape.Set(static_cast<uint32_t>(d), Napi::Number::New(call.env(), static_cast<double>(tensor.shape[d])));
  }
  return shape;
}

Napi::Value DTypeOf(const Call& call) {
  return Napi::String::New(call.env(), DTypeName(call.Any(0, "tensor").dtype));
}

Napi::Value Write(const Call& call) {
  const Tensor tensor = call.Any(0, "tensor");
  const int64_t offset = call.Integer(1, "byteOffset", 0);
  const auto bytes = call.Bytes(2, "bytes");
  const auto size = static_cast<int64_t>(bytes.size());
  if (offset > tensor.bytes() || size > tensor.bytes() - offset) {
    call.FailRange("bytes [" + std::to_string(offset) + ", " + std::to_string(offset + size) +
                   ") lie outside tensor " + Describe(tensor));
  }
  call.backend().Upload(tensor.as<uint8_t>() + offset, bytes.data(), bytes.size());
  return call.env().Undefined();
}

Napi::Value FillRandom(const Call& call) {
  const Tensor tensor = call.Any(0, "tensor");
  if (tensor.dtype == DType::kInt32 || tensor.dtype == DType::kUint8) {
    call.FailType("tensor must be float32, bfloat16, int8 or float8, not " + Describe(tensor));
  }
  const int64_t seed = call.Integer(1, "seed", 0, int64_t{1} << 53);
  const auto mean = static_cast<float>(call.Number(2, "mean"));
  const auto spread = static_cast<float>(call.Number(3, "spread"));
  call.backend().FillRandom(tensor, static_cast<uint64_t>(seed), mean, spread);
  return call.env().Undefined();
}

Napi::Value ReadFloat32(const Call& call) {
  Tensor tensor = call.Any(0, "tensor");
  const int64_t n = tensor.elements();
  auto values = Napi::Float32Array::New(call.env(), static_cast<size_t>(n));
  float* out = values.Data();
  if (n == 0) return values;
  Scratch scratch(call.environment.host_arena);
  if (!call.backend().on_host()) {
    uint8_t* const copy = scratch.Get<uint8_t>(tensor.bytes());
    call.backend().Download(copy, tensor.data, static_cast<size_t>(tensor.bytes()));
    tensor.data = copy;
  }
  switch (tensor.dtype) {
    case DType::kFloat32:
      Widen(tensor.as<float>(), out, n);
      break;
    case DType::kBFloat16:
      Widen(tensor.as<BFloat16>(), out, n);
      break;
    case DType::kInt32:
      for (int64_t i = 0; i < n; ++i) out[i] = static_cast<float>(tensor.as<int32_t>()[i]);
      break;
    case DType::kInt8:
    case DType::kFloat8:
      for (int64_t r = 0; r < tensor.rows(); ++r) {
        float* row = out + r * tensor.cols();
        if (tensor.dtype == DType::kInt8) {
          Widen(tensor.row<int8_t>(r), row, tensor.cols());
        } else {
          Widen(tensor.row<Float8>(r), row, tensor.cols());
        }
        AffineRow(tensor.scales()[r], 0.0f, row, tensor.cols());
      }
      break;
    case DType::kUint8:
      for (int64_t i = 0; i < n; ++i) out[i] = tensor.as<uint8_t>()[i];
      break;
  }
  return values;
}

Napi::Value ReadRow(const Call& call) {
  const Tensor x = call.MatrixOf(0, "x", DType::kFloat32);
  const int64_t row = call.Integer(1, "row", 0, x.shape[0] - 1);
  const auto into = call.Float32s(2, "into");
  REQUIRE(
      call, static_cast<int64_t>(into.size()) <= x.cols(),
      "into takes " + std::to_string(into.size()) + " values, more than x " + Describe(x) + " has columns");
  call.backend().Download(into.data(), x.row<float>(row), into.size_bytes());
  return call.env().Undefined();
}

namespace {

/// One for each step under way: more are readings that nobody finished.
constexpr size_t kMostReadings = 64;

}  // namespace

Napi::Value StartRead(const Call& call) {
  const Tensor x = call.MatrixOf(0, "x", DType::kInt32);
  Readings& readings = call.environment.readings;
  REQUIRE(call, readings.pending.size() < kMostReadings,
          "there are " + std::to_string(kMostReadings) + " readings already: finish them");
  readings.pending.emplace(readings.next,
                           Reading{call.backend().StartDownload(x.data, static_cast<size_t>(x.bytes())),
                                   static_cast<size_t>(x.elements())});
  return Napi::Number::New(call.env(), static_cast<double>(readings.next++));
}

Napi::Value FinishRead(const Call& call) {
  Readings& readings = call.environment.readings;
  const auto found = readings.pending.find(call.Integer(0, "reading", 0));
  REQUIRE(call, found != readings.pending.end(), "reading was finished, or never was one");
  const auto into = call.Int32s(1, "into");
  REQUIRE(call, into.size() <= found->second.count,
          "into takes " + std::to_string(into.size()) + " values, more than the " +
              std::to_string(found->second.count) + " that were read");
  const Reading reading = std::move(found->second);
  readings.pending.erase(found);
  if (!into.empty()) std::memcpy(into.data(), reading.download->Wait(), into.size_bytes());
  return call.env().Undefined();
}

Napi::Value MemoryBytes(const Call& call) {
  TensorTable& tensors = call.environment.tensors;
  Napi::Object bytes = Napi::Object::New(call.env());
  bytes.Set("persistent", static_cast<double>(tensors.persistent_bytes()));
  bytes.Set("arenaUsed", static_cast<double>(tensors.arena().used()));
  bytes.Set("arenaPeak", static_cast<double>(tensors.arena().peak()));
  bytes.Set("arenaReserved", static_cast<double>(tensors.arena().reserved()));
  return bytes;
}

}  // namespace internvl
