// RMS and layer normalisation. Each row is widened, worked on in float32 and rounded where the contract says.
#include <cmath>

#include "cpu_backend.h"
#include "parallel.h"
#include "residual_row.h"
#include "row_math.h"
#include "wide_vector.h"

namespace internvl {
namespace {

/// row = round(row * factor) * weight, not rounded again.
template <typename T>
void ScaleRow(float* row, float factor, const float* weight, int64_t n) {
  AffineRow(factor, 0.0f, row, n);
  RoundRow<T>(row, n);
  MulRow(weight, row, n);
}

/// Overwrites row.
template <typename T>
void RmsNormRow(float* row, const float* weight, float eps, T* out, int64_t n) {
  const float mean = SumSquares(row, n) / static_cast<float>(n);
  ScaleRow<T>(row, 1.0f / std::sqrt(mean + eps), weight, n);
  Narrow(row, out, n);
}

}  // namespace

void CpuBackend::RmsNorm(const Tensor& x, const Tensor& weight, float eps, const Tensor& out) {
  const int64_t width = x.cols();
  Scratch scratch(arena());
  const float* wide_weight = WideVector(weight, scratch);
  float* buffers = scratch.Get<float>(MaxThreads() * width);
  WithElement(x.dtype, [&]<typename T>(T*) {
    ParallelFor(x.rows(), x.elements(), [&](int64_t r, int thread) {
      float* row = buffers + thread * width;
      Widen(x.row<T>(r), row, width);
      RmsNormRow(row, wide_weight, eps, out.row<T>(r), width);
    });
  });
}

void CpuBackend::AddRmsNorm(const Tensor& x, const Tensor& y, const Tensor* scale, const Tensor& weight,
                            float eps, const Tensor& out) {
  const int64_t width = x.cols();
  Scratch scratch(arena());
  const float* wide_scale = scale ? WideVector(*scale, scratch) : nullptr;
  const float* wide_weight = WideVector(weight, scratch);
  float* buffers = scratch.Get<float>(MaxThreads() * 2 * width);
  WithElement(x.dtype, [&]<typename X>(X*) {
    WithElement(y.dtype, [&]<typename Y>(Y*) {
      ParallelFor(x.rows(), x.elements(), [&](int64_t r, int thread) {
        float* sum = buffers + thread * 2 * width;
        float* term = sum + width;
        Widen(x.row<X>(r), sum, width);
        AddTerm<X>(y.row<Y>(r), wide_scale, term, sum, width);
        Narrow(sum, x.row<X>(r), width);
        Widen(x.row<X>(r), sum, width);
        RmsNormRow(sum, wide_weight, eps, out.row<X>(r), width);
      });
    });
  });
}

void CpuBackend::LayerNorm(const Tensor& x, const Tensor& weight, const Tensor& bias, float eps,
                           const Tensor& out) {
  const int64_t width = x.cols();
  Scratch scratch(arena());
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
      Narrow(row, out.row<T>(r), width);
    });
  });
}

void CpuBackend::QkSumSquares(const Tensor& qkv, const Tensor& out) {
  const int64_t width = qkv.cols() / 3;
  Scratch scratch(arena());
  float* buffers = scratch.Get<float>(MaxThreads() * width);
  WithElement(qkv.dtype, [&]<typename T>(T*) {
    ParallelFor(qkv.rows() * 2, qkv.elements(), [&](int64_t i, int thread) {
      float* row = buffers + thread * width;
      Widen(qkv.row<T>(i / 2) + (i % 2) * width, row, width);
      out.as<float>()[i] = SumSquares(row, width);
    });
  });
}

void CpuBackend::QkNorm(const Tensor& qkv, const Tensor& q_weight, const Tensor& k_weight, const Tensor& sums,
                        float norm_width, float eps) {
  const int64_t width = qkv.cols() / 3;
  Scratch scratch(arena());
  const float* wide_weights[2] = {WideVector(q_weight, scratch), WideVector(k_weight, scratch)};
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
}

}  // namespace internvl
