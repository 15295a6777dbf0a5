// Activations, residual additions and conversions, row by row.
#include "cpu_backend.h"
#include "parallel.h"
#include "residual_row.h"
#include "row_math.h"
#include "wide_vector.h"

namespace internvl {

void CpuBackend::Convert(const Tensor& x, const Tensor* bias, const Tensor& out) {
  const int64_t width = x.cols();
  Scratch scratch(arena());
  const float* wide_bias = bias ? WideVector(*bias, scratch) : nullptr;
  float* buffers = scratch.Get<float>(MaxThreads() * width);
  WithElement(x.dtype, [&]<typename From>(From*) {
    WithElement(out.dtype, [&]<typename To>(To*) {
      ParallelFor(x.rows(), x.elements(), [&](int64_t r, int thread) {
        float* row = buffers + thread * width;
        Widen(x.row<From>(r), row, width);
        if (bias) AddRow(wide_bias, row, width);
        Narrow(row, out.row<To>(r), width);
      });
    });
  });
}

void CpuBackend::Gelu(const Tensor& x) {
  const int64_t width = x.cols();
  Scratch scratch(arena());
  float* buffers = scratch.Get<float>(MaxThreads() * width);
  WithElement(x.dtype, [&]<typename T>(T*) {
    ParallelFor(x.rows(), x.elements(), [&](int64_t r, int thread) {
      float* row = buffers + thread * width;
      Widen(x.row<T>(r), row, width);
      GeluRow(row, width);
      Narrow(row, x.row<T>(r), width);
    });
  });
}

void CpuBackend::SiluMul(const Tensor& gate_up, const Tensor& out) {
  const int64_t width = gate_up.cols() / 2;
  WithElement(gate_up.dtype, [&]<typename T>(T*) {
    ParallelFor(gate_up.rows(), gate_up.elements(), [&](int64_t r, int) {
      const T* const gate = gate_up.row<T>(r);
      SiluMulRow(gate, gate + width, out.row<T>(r), width);
    });
  });
}

void CpuBackend::AddScaled(const Tensor& x, const Tensor& y, const Tensor* scale) {
  const int64_t width = x.cols();
  Scratch scratch(arena());
  const float* wide_scale = scale ? WideVector(*scale, scratch) : nullptr;
  float* buffers = scratch.Get<float>(MaxThreads() * 2 * width);
  WithElement(x.dtype, [&]<typename X>(X*) {
    WithElement(y.dtype, [&]<typename Y>(Y*) {
      ParallelFor(x.rows(), x.elements(), [&](int64_t r, int thread) {
        float* sum = buffers + thread * 2 * width;
        float* term = sum + width;
        Widen(x.row<X>(r), sum, width);
        AddTerm<X>(y.row<Y>(r), wide_scale, term, sum, width);
        Narrow(sum, x.row<X>(r), width);
      });
    });
  });
}

}  // namespace internvl
