// RMS and layer normalisation. Each row is widened, worked on in float32 and rounded where the contract says.
#include <cmath>

#include "operations.h"
#include "parallel.h"
#include "row_math.h"

namespace internvl {
namespace {

/// A vector parameter as float32, in the operation's scratch memory.
const float* WideVector(const Tensor& vector, Scratch& scratch) {
  float* wide = scratch.Get<float>(vector.elements());
  WithElement(vector.dtype, [&]<typename T>(T*) { Widen(vector.as<T>(), wide, vector.elements()); });
  return wide;
}

/// row = round(row * factor) * weight, not rounded again.
template <typename T>
void ScaleRow(float* row, float factor, const float* weight, int64_t n) {
  AffineRow(factor, 0.0f, row, n);
  RoundRow<T>(row, n);
  MulRow(weight, row, n);
}

}  // namespace

Napi::Value RmsNorm(const Call& call) {
  const Tensor x = call.Matrix(0, "x");
  const int64_t width = x.cols();
  const Tensor weight = call.Vector(1, "weight", width);
  const auto eps = static_cast<float>(call.Number(2, "eps"));
  const Result out = call.Make(x.dtype, x.rows(), width);
  Scratch scratch(call.environment.tensors.arena());
  const float* wide_weight = WideVector(weight, scratch);
  float* buffers = scratch.Get<float>(MaxThreads() * width);
  WithElement(x.dtype, [&]<typename T>(T*) {
    ParallelFor(x.rows(), x.elements(), [&](int64_t r, int thread) {
      float* row = buffers + thread * width;
      Widen(x.row<T>(r), row, width);
      const float mean = SumSquares(row, width) / static_cast<float>(width);
      ScaleRow<T>(row, 1.0f / std::sqrt(mean + eps), wide_weight, width);
      Narrow(row, out.tensor.row<T>(r), width);
    });
  });
  return out.handle;
}

Napi::Value LayerNorm(const Call& call) {
  const Tensor x = call.Matrix(0, "x");
  const int64_t width = x.cols();
  const Tensor weight = call.Vector(1, "weight", width), bias = call.Vector(2, "bias", width);
  const auto eps = static_cast<float>(call.Number(3, "eps"));
  const Result out = call.Make(x.dtype, x.rows(), width);
  Scratch scratch(call.environment.tensors.arena());
  const float* wide_weight = WideVector(weight, scratch);
  const float* wide_bias = WideVector(bias, scratch);
  float* buffers = scratch.Get<float>(MaxThreads() * width);
  WithElement(x.dtype, [&]<typename T>(T*) {
    ParallelFor(x.rows(), x.elements(), [&](int64_t r, int thread) {
      float* row = buffers + thread * width;
      Widen(x.row<T>(r), row, width);
      const float mean = Sum(row, width) / static_cast<float>(width);
      AffineRow(1.0f, -mean, row, width);
      const float variance = SumSquares(row, width) / static_cast<float>(width);
      AffineRow(1.0f / std::sqrt(variance + eps), 0.0f, row, width);
      MulRow(wide_weight, row, width);
      AddRow(wide_bias, row, width);
      Narrow(row, out.tensor.row<T>(r), width);
    });
  });
  return out.handle;
}

Napi::Value QkSumSquares(const Call& call) {
  const Tensor qkv = call.Matrix(0, "qkv");
  REQUIRE(call, qkv.cols() % 3 == 0, "qkv " + Describe(qkv) + " must have a multiple of 3 columns");
  const int64_t width = qkv.cols() / 3;
  const Result out = call.Make(DType::kFloat32, qkv.rows(), 2);
  Scratch scratch(call.environment.tensors.arena());
  float* buffers = scratch.Get<float>(MaxThreads() * width);
  WithElement(qkv.dtype, [&]<typename T>(T*) {
    ParallelFor(qkv.rows() * 2, qkv.elements(), [&](int64_t i, int thread) {
      float* row = buffers + thread * width;
      Widen(qkv.row<T>(i / 2) + (i % 2) * width, row, width);
      out.tensor.as<float>()[i] = SumSquares(row, width);
    });
  });
  return out.handle;
}

Napi::Value QkNorm(const Call& call) {
  const Tensor qkv = call.Matrix(0, "qkv");
  REQUIRE(call, qkv.cols() % 3 == 0, "qkv " + Describe(qkv) + " must have a multiple of 3 columns");
  const int64_t width = qkv.cols() / 3;
  const Tensor weights[2] = {call.Vector(1, "qWeight", width), call.Vector(2, "kWeight", width)};
  const Tensor sums = call.MatrixOf(3, "sums", DType::kFloat32, qkv.rows(), 2);
  const auto norm_width = static_cast<float>(call.Integer(4, "normWidth", 1));
  const auto eps = static_cast<float>(call.Number(5, "eps"));
  Scratch scratch(call.environment.tensors.arena());
  const float* wide_weights[2] = {WideVector(weights[0], scratch), WideVector(weights[1], scratch)};
  float* buffers = scratch.Get<float>(MaxThreads() * width);
  WithElement(qkv.dtype, [&]<typename T>(T*) {
    ParallelFor(qkv.rows() * 2, qkv.elements(), [&](int64_t i, int thread) {
      T* part = qkv.row<T>(i / 2) + (i % 2) * width;
      float* row = buffers + thread * width;
      Widen(part, row, width);
      ScaleRow<T>(row, 1.0f / std::sqrt(sums.as<float>()[i] / norm_width + eps), wide_weights[i % 2], width);
      Narrow(row, part, width);
    });
  });
  return call.env().Undefined();
}

}  // namespace internvl
