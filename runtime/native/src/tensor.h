// A tensor as the operations see it: a typed view of memory that the tensor table owns.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <string>

#include "float8.h"

namespace internvl {

enum class DType : uint8_t { kFloat32, kBFloat16, kInt32, kUint8, kInt8, kFloat8 };

/// The upper 16 bits of a float32.
struct BFloat16 {
  uint16_t bits;
};

/// e4m3: see float8.h.
struct Float8 {
  uint8_t bits;
};

inline float ToFloat(float value) { return value; }
INTERNVL_EVERYWHERE inline float ToFloat(Float8 value) { return FromFloat8(value.bits); }
inline float ToFloat(BFloat16 value) {
  const uint32_t bits = static_cast<uint32_t>(value.bits) << 16;
  float result;
  std::memcpy(&result, &bits, sizeof(result));
  return result;
}

/// Rounds to nearest, ties to even; a NaN stays a (quiet) NaN.
inline BFloat16 ToBFloat16(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  if ((bits & 0x7fffffffu) > 0x7f800000u) return {static_cast<uint16_t>((bits >> 16) | 0x40u)};
  return {static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16)};
}

template <typename T>
inline T FromFloat(float value);
template <>
inline float FromFloat<float>(float value) {
  return value;
}
template <>
inline BFloat16 FromFloat<BFloat16>(float value) {
  return ToBFloat16(value);
}

/// The value as T holds it.
template <typename T>
inline float Rounded(float value) {
  return ToFloat(FromFloat<T>(value));
}

/// Weights of a byte an element, with a scale for each row.
constexpr bool IsQuantized(DType dtype) { return dtype == DType::kInt8 || dtype == DType::kFloat8; }

constexpr int64_t ElementBytes(DType dtype) {
  return dtype == DType::kUint8 || IsQuantized(dtype) ? 1 : dtype == DType::kBFloat16 ? 2 : 4;
}

const char* DTypeName(DType dtype);

constexpr int kMaxDims = 4;

struct Tensor {
  DType dtype = DType::kFloat32;
  int dims = 0;
  std::array<int64_t, kMaxDims> shape{};
  void* data = nullptr;

  /// All dimensions but the last one, multiplied.
  int64_t rows() const {
    int64_t product = 1;
    for (int d = 0; d + 1 < dims; ++d) product *= shape[d];
    return product;
  }
  int64_t cols() const { return shape[dims - 1]; }
  int64_t elements() const { return rows() * cols(); }
  int64_t bytes() const {
    const int64_t plain = elements() * ElementBytes(dtype);
    return IsQuantized(dtype) ? AfterElements() + rows() * static_cast<int64_t>(sizeof(float)) : plain;
  }

  template <typename T>
  T* as() const {
    return static_cast<T*>(data);
  }
  template <typename T>
  T* row(int64_t index) const {
    return static_cast<T*>(data) + index * cols();
  }
  /// int8 and float8: element [r, c] stands for itself times scales()[r].
  float* scales() const { return reinterpret_cast<float*>(as<uint8_t>() + AfterElements()); }

 private:
  int64_t AfterElements() const { return (elements() + 63) / 64 * 64; }
};

/// Calls f with a null pointer of the element type of a float32 or bfloat16 tensor.
template <typename F>
void WithElement(DType dtype, F&& f) {
  if (dtype == DType::kFloat32) {
    f(static_cast<float*>(nullptr));
  } else {
    f(static_cast<BFloat16*>(nullptr));
  }
}

/// The same for a weight.
template <typename F>
void WithWeight(DType dtype, F&& f) {
  if (dtype == DType::kInt8) {
    f(static_cast<int8_t*>(nullptr));
  } else if (dtype == DType::kFloat8) {
    f(static_cast<Float8*>(nullptr));
  } else {
    WithElement(dtype, f);
  }
}

/// For messages: "float32 [4, 32]".
std::string Describe(const Tensor& tensor);

}  // namespace internvl
