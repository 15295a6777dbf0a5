// Activations, residual additions and conversions: one pack a thread, each element read once and written
// once.
#include "cuda_backend.h"
#include "packs.h"
#include "residual_pack.h"
#include "row_grid.h"

namespace internvl::cuda {
namespace {

/// Reads and writes `width` elements of a row.
template <typename From, typename To, int N>
__global__ void __launch_bounds__(RowGrid::kThreads)
    ConvertKernel(const From* x, int64_t width, Parameters bias, To* out) {
  const int64_t i = PackOfRow() * N, at = blockIdx.x * width + i;
  if (i >= width) return;
  float values[N];
  LoadPack(x + at, values);
  if (bias.data != nullptr) {
    float terms[N];
    bias.Load(i, terms);
#pragma unroll
    for (int j = 0; j < N; ++j) values[j] += terms[j];
  }
  StorePack(values, out + at);
}

template <typename T, int N>
__global__ void __launch_bounds__(RowGrid::kThreads) GeluKernel(T* x, int64_t width) {
  const int64_t i = PackOfRow() * N;
  if (i >= width) return;
  T* at = x + blockIdx.x * width + i;
  float values[N];
  LoadPack(at, values);
#pragma unroll
  for (int j = 0; j < N; ++j) {
    values[j] = values[j] * 0.5f * (1.0f + erff(values[j] * 0.70710678118654752440f));
  }
  StorePack(values, at);
}

/// Reads 2 * width elements of a row, writes width.
template <typename T, int N>
__global__ void __launch_bounds__(RowGrid::kThreads) SiluMulKernel(const T* gate_up, int64_t width, T* out) {
  const int64_t i = PackOfRow() * N;
  if (i >= width) return;
  const T* gate = gate_up + blockIdx.x * 2 * width + i;
  float values[N], up[N];
  LoadPack(gate, values);
  LoadPack(gate + width, up);
#pragma unroll
  for (int j = 0; j < N; ++j) {
    // exp(-x) is infinity for the smallest gates, and the quotient 0.
    values[j] = RoundedTo<T>(values[j] / (1.0f + expf(-values[j]))) * up[j];
  }
  StorePack(values, out + blockIdx.x * width + i);
}

/// Reads 2 * width elements of a row, writes width.
template <typename X, typename Y, int N>
__global__ void __launch_bounds__(RowGrid::kThreads)
    AddScaledKernel(X* x, const Y* y, int64_t width, Parameters scale) {
  const int64_t i = PackOfRow() * N, at = blockIdx.x * width + i;
  if (i >= width) return;
  float sums[N], terms[N];
  LoadPack(x + at, sums);
  LoadPack(y + at, terms);
  AddTerms<X>(terms, scale, i, sums);
  StorePack(sums, x + at);
}

}  // namespace

void CudaBackend::Convert(const Tensor& x, const Tensor* bias, const Tensor& out) {
  const int64_t width = x.cols();
  WithElement(x.dtype, [&]<typename From>(From*) {
    WithElement(out.dtype, [&]<typename To>(To*) {
      WithPacks(width, [&]<int N>(std::integral_constant<int, N>) {
        const RowGrid threads(x.rows(), width / N);
        if (threads.empty) return;
        Launch(ConvertKernel<From, To, N>, threads.grid, threads.block, 0, stream_, x.as<From>(), width,
               Parameters(bias), out.as<To>());
      });
    });
  });
}

void CudaBackend::Gelu(const Tensor& x) {
  const int64_t width = x.cols();
  WithElement(x.dtype, [&]<typename T>(T*) {
    WithPacks(width, [&]<int N>(std::integral_constant<int, N>) {
      const RowGrid threads(x.rows(), width / N);
      if (threads.empty) return;
      Launch(GeluKernel<T, N>, threads.grid, threads.block, 0, stream_, x.as<T>(), width);
    });
  });
}

void CudaBackend::SiluMul(const Tensor& gate_up, const Tensor& out) {
  const int64_t width = out.cols();
  WithElement(gate_up.dtype, [&]<typename T>(T*) {
    WithPacks(width, [&]<int N>(std::integral_constant<int, N>) {
      const RowGrid threads(gate_up.rows(), width / N);
      if (threads.empty) return;
      Launch(SiluMulKernel<T, N>, threads.grid, threads.block, 0, stream_, gate_up.as<T>(), width,
             out.as<T>());
    });
  });
}

void CudaBackend::AddScaled(const Tensor& x, const Tensor& y, const Tensor* scale) {
  const int64_t width = x.cols();
  WithElement(x.dtype, [&]<typename X>(X*) {
    WithElement(y.dtype, [&]<typename Y>(Y*) {
      WithPacks(width, [&]<int N>(std::integral_constant<int, N>) {
        const RowGrid threads(x.rows(), width / N);
        if (threads.empty) return;
        Launch(AddScaledKernel<X, Y, N>, threads.grid, threads.block, 0, stream_, x.as<X>(), y.as<Y>(), width,
               Parameters(scale));
      });
    });
  });
}

}  // namespace internvl::cuda
