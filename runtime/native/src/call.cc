#include "call.h"

#include <cmath>

namespace internvl {

void Call::FailType(const std::string& message) const {
  throw Napi::TypeError::New(env(), std::string(op_) + ": " + message);
}

void Call::FailRange(const std::string& message) const {
  throw Napi::RangeError::New(env(), std::string(op_) + ": " + message);
}

double Call::Number(int index, const char* name) const {
  const Napi::Value value = info_[index];
  if (!value.IsNumber()) FailType(std::string(name) + " must be a number");
  return value.As<Napi::Number>().DoubleValue();
}

int64_t Call::Integer(int index, const char* name, int64_t min, int64_t max) const {
  const double value = Number(index, name);
  if (!(std::floor(value) == value))
    FailType(std::string(name) + " must be an integer, not " + std::to_string(value));
  if (value < static_cast<double>(min) || value > static_cast<double>(max)) {
    FailRange(std::string(name) + " must be in [" + std::to_string(min) + ", " + std::to_string(max) +
              "], not " + std::to_string(value));
  }
  return static_cast<int64_t>(value);
}

std::string Call::Text(int index, const char* name) const {
  const Napi::Value value = info_[index];
  if (!value.IsString()) FailType(std::string(name) + " must be a string");
  return value.As<Napi::String>().Utf8Value();
}

DType Call::Type(int index, const char* name, std::initializer_list<DType> allowed) const {
  const std::string text = Text(index, name);
  std::string names;
  for (const DType dtype : allowed) {
    if (text == DTypeName(dtype)) return dtype;
    names += (names.empty() ? "" : " or ") + std::string(DTypeName(dtype));
  }
  FailType(std::string(name) + " must be " + names + ", not '" + text + "'");
}

std::span<uint8_t> Call::Bytes(int index, const char* name) const {
  const Napi::Value value = info_[index];
  if (!value.IsTypedArray() || value.As<Napi::TypedArray>().TypedArrayType() != napi_uint8_array) {
    FailType(std::string(name) + " must be a Uint8Array");
  }
  auto array = value.As<Napi::Uint8Array>();
  return {array.Data(), array.ElementLength()};
}

std::span<int32_t> Call::Int32s(int index, const char* name) const {
  const Napi::Value value = info_[index];
  if (!value.IsTypedArray() || value.As<Napi::TypedArray>().TypedArrayType() != napi_int32_array) {
    FailType(std::string(name) + " must be an Int32Array");
  }
  auto array = value.As<Napi::Int32Array>();
  return {array.Data(), array.ElementLength()};
}

std::span<float> Call::Float32s(int index, const char* name) const {
  const Napi::Value value = info_[index];
  if (!value.IsTypedArray() || value.As<Napi::TypedArray>().TypedArrayType() != napi_float32_array) {
    FailType(std::string(name) + " must be a Float32Array");
  }
  auto array = value.As<Napi::Float32Array>();
  return {array.Data(), array.ElementLength()};
}

Napi::Array Call::List(int index, const char* name) const {
  const Napi::Value value = info_[index];
  if (!value.IsArray()) FailType(std::string(name) + " must be an array");
  return value.As<Napi::Array>();
}

int64_t Call::Handle(int index, const char* name) const {
  const Napi::Value value = info_[index];
  if (!value.IsNumber()) FailType(std::string(name) + " must be a tensor");
  const double number = value.As<Napi::Number>().DoubleValue();
  if (!(number >= 0 && number < 9007199254740992.0 && std::floor(number) == number)) {
    FailType(std::string(name) + " must be a tensor");
  }
  return static_cast<int64_t>(number);
}

Tensor Call::Any(int index, const char* name) const {
  const Tensor* tensor = environment.tensors.Find(Handle(index, name));
  if (tensor == nullptr) FailRange(std::string(name) + " is a tensor that was freed or released");
  return *tensor;
}

Tensor Call::Matrix(int index, const char* name) const {
  const Tensor tensor = Any(index, name);
  if (tensor.dims != 2 || (tensor.dtype != DType::kFloat32 && tensor.dtype != DType::kBFloat16)) {
    FailType(std::string(name) + " must be a float32 or bfloat16 matrix, not " + Describe(tensor));
  }
  return tensor;
}

Tensor Call::Weight(int index, const char* name) const {
  const Tensor tensor = Any(index, name);
  return tensor.dims == 2 && IsQuantized(tensor.dtype) ? tensor : Matrix(index, name);
}

Tensor Call::MatrixOf(int index, const char* name, DType dtype) const {
  const Tensor tensor = Any(index, name);
  if (tensor.dims != 2 || tensor.dtype != dtype) {
    FailType(std::string(name) + " must be a " + DTypeName(dtype) + " matrix, not " + Describe(tensor));
  }
  return tensor;
}

Tensor Call::MatrixOf(int index, const char* name, DType dtype, int64_t rows, int64_t cols) const {
  const Tensor tensor = MatrixOf(index, name, dtype);
  if ((rows >= 0 && tensor.shape[0] != rows) || (cols >= 0 && tensor.shape[1] != cols)) {
    FailRange(std::string(name) + " must be [" + (rows >= 0 ? std::to_string(rows) : "rows") + ", " +
              (cols >= 0 ? std::to_string(cols) : "columns") + "], not " + Describe(tensor));
  }
  return tensor;
}

Tensor Call::Vector(int index, const char* name, int64_t size) const {
  const Tensor tensor = Any(index, name);
  if (tensor.dims != 1 || (tensor.dtype != DType::kFloat32 && tensor.dtype != DType::kBFloat16)) {
    FailType(std::string(name) + " must be a float32 or bfloat16 vector, not " + Describe(tensor));
  }
  if (tensor.shape[0] != size) {
    FailRange(std::string(name) + " must have " + std::to_string(size) + " elements, not " +
              std::to_string(tensor.shape[0]));
  }
  return tensor;
}

Indices Call::Values(int index, const char* name) const {
  const int64_t handle = Handle(index, name);
  const Tensor tensor = MatrixOf(index, name, DType::kInt32);
  const auto values = environment.tensors.Values(handle);
  if (values.size() != static_cast<size_t>(tensor.elements())) {
    FailType(std::string(name) + " must be a result of indices, not " + Describe(tensor));
  }
  return {tensor, values};
}

Result Call::Make(DType dtype, int64_t rows, int64_t cols) const {
  const int64_t handle = environment.tensors.Push(dtype, rows, cols);
  return {*environment.tensors.Find(handle), Napi::Number::New(env(), static_cast<double>(handle))};
}

}  // namespace internvl
