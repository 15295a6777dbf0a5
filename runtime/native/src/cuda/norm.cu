// RMS and layer normalisation, RMS also of what a residual addition gives: one block per row. A row is read
// once from memory and written once (2 * width elements moved, 4 * width with the addition); what does not
// fit the threads' registers is read again from the cache. Widths of up to 8,192 elements, 7,168 of the
// language model and 3,200 of the vision encoder among them, take one pack a thread, so that one row has as
// many loads in flight as a multiprocessor can.
#include "block_sum.h"
#include "cuda_backend.h"
#include "packs.h"
#include "residual_pack.h"
#include "row_grid.h"

namespace internvl::cuda {
namespace {

constexpr int64_t kMostThreads = 1024;

unsigned ThreadsOfRow(int64_t packs) {
  return static_cast<unsigned>(packs < kMostThreads ? (packs + 31) / 32 * 32 : kMostThreads);
}

/// One row in packs of N, spread over a block; a thread's first pack stays in registers.
template <typename T, int N>
class BlockRow {
 public:
  __device__ BlockRow(const T* row, int64_t width) : row_(row), width_(width) {
    if (First() < width) LoadPack(row + First(), first_);
  }

  /// Where the thread's first pack begins.
  __device__ static int64_t First() { return int64_t{threadIdx.x} * N; }

  /// f(first element of the pack, its values)
  template <typename F>
  __device__ void ForEach(F&& f) {
    for (int64_t i = First(); i < width_; i += int64_t{blockDim.x} * N) {
      float values[N];
      if (i == First()) {
#pragma unroll
        for (int j = 0; j < N; ++j) values[j] = first_[j];
      } else {
        LoadPack(row_ + i, values);
      }
      f(i, values);
    }
  }

  /// f changes the values of each pack; the row keeps them as T holds them, in memory too. Before any sum.
  template <typename F>
  __device__ void Change(T* row, F&& f) {
    ForEach([&](int64_t i, float(&values)[N]) {
      f(i, values);
#pragma unroll
      for (int j = 0; j < N; ++j) values[j] = RoundedTo<T>(values[j]);
      StorePack(values, row + i);  // whoever reads it again has written it
      if (i != First()) return;
#pragma unroll
      for (int j = 0; j < N; ++j) first_[j] = values[j];
    });
  }

  /// Of (x - shift)^2.
  __device__ float SumSquares(float shift) {
    float sum = 0.0f;
    ForEach([&](int64_t, const float(&values)[N]) {
#pragma unroll
      for (int j = 0; j < N; ++j) sum += (values[j] - shift) * (values[j] - shift);
    });
    return BlockSum(sum);
  }

  __device__ float Sum() {
    float sum = 0.0f;
    ForEach([&](int64_t, const float(&values)[N]) {
#pragma unroll
      for (int j = 0; j < N; ++j) sum += values[j];
    });
    return BlockSum(sum);
  }

 private:
  const T* row_;
  int64_t width_;
  float first_[N] = {};
};

template <typename T, int N>
__device__ void NormRow(BlockRow<T, N>& row, int64_t width, const Parameters& weight, float eps, T* out) {
  const float mean = row.SumSquares(0.0f) / static_cast<float>(width);
  const float factor = 1.0f / sqrtf(mean + eps);
  row.ForEach([&](int64_t i, float(&values)[N]) {
    float scale[N];
    weight.Load(i, scale);
#pragma unroll
    for (int j = 0; j < N; ++j) values[j] = RoundedTo<T>(values[j] * factor) * scale[j];
    StorePack(values, out + i);
  });
}

template <typename T, int N>
__global__ void __launch_bounds__(kMostThreads)
    RmsNormKernel(const T* x, int64_t width, Parameters weight, float eps, T* out) {
  BlockRow<T, N> row(x + blockIdx.x * width, width);
  NormRow(row, width, weight, eps, out + blockIdx.x * width);
}

/// Reads 2 * width elements of a row, writes as many.
template <typename X, typename Y, int N>
__global__ void __launch_bounds__(kMostThreads)
    AddRmsNormKernel(X* x, const Y* y, int64_t width, Parameters scale, Parameters weight, float eps,
                     X* out) {
  const int64_t at = blockIdx.x * width;
  BlockRow<X, N> row(x + at, width);
  row.Change(x + at, [&](int64_t i, float(&values)[N]) {
    float terms[N];
    LoadPack(y + at + i, terms);
    AddTerms<X>(terms, scale, i, values);
  });
  NormRow(row, width, weight, eps, out + at);
}

template <typename T, int N>
__global__ void __launch_bounds__(kMostThreads)
    LayerNormKernel(const T* x, int64_t width, Parameters weight, Parameters bias, float eps, T* out) {
  BlockRow<T, N> row(x + blockIdx.x * width, width);
  const float mean = row.Sum() / static_cast<float>(width);
  const float variance = row.SumSquares(mean) / static_cast<float>(width);
  const float factor = 1.0f / sqrtf(variance + eps);
  row.ForEach([&](int64_t i, float(&values)[N]) {
    float scale[N], term[N];
    weight.Load(i, scale);
    bias.Load(i, term);
#pragma unroll
    for (int j = 0; j < N; ++j) values[j] = (values[j] - mean) * factor * scale[j] + term[j];
    StorePack(values, out + blockIdx.x * width + i);
  });
}

/// blockIdx.y: the first or the second third. Reads 2 * width elements of a row, writes 8 bytes.
template <typename T, int N>
__global__ void __launch_bounds__(kMostThreads) QkSumSquaresKernel(const T* qkv, int64_t width, float* out) {
  BlockRow<T, N> part(qkv + (int64_t{blockIdx.x} * 3 + blockIdx.y) * width, width);
  const float sum = part.SumSquares(0.0f);
  if (threadIdx.x == 0) out[int64_t{blockIdx.x} * 2 + blockIdx.y] = sum;
}

/// blockIdx.z: the first or the second third. Reads and writes 2 * width elements of a row.
template <typename T, int N>
__global__ void __launch_bounds__(RowGrid::kThreads)
    QkNormKernel(T* qkv, int64_t width, Parameters q_weight, Parameters k_weight, const float* sums,
                 float norm_width, float eps) {
  const int64_t i = PackOfRow() * N;
  if (i >= width) return;
  const float sum = sums[int64_t{blockIdx.x} * 2 + blockIdx.z];
  const float factor = 1.0f / sqrtf(sum / norm_width + eps);
  T* at = qkv + (int64_t{blockIdx.x} * 3 + blockIdx.z) * width + i;
  float values[N], scale[N];
  LoadPack(at, values);
  (blockIdx.z == 0 ? q_weight : k_weight).Load(i, scale);
#pragma unroll
  for (int j = 0; j < N; ++j) values[j] = RoundedTo<T>(values[j] * factor) * scale[j];
  StorePack(values, at);
}

}  // namespace

void CudaBackend::RmsNorm(const Tensor& x, const Tensor& weight, float eps, const Tensor& out) {
  const int64_t rows = x.rows(), width = x.cols();
  if (rows == 0 || width == 0) return;
  WithElement(x.dtype, [&]<typename T>(T*) {
    WithPacks(width, [&]<int N>(std::integral_constant<int, N>) {
      Launch(RmsNormKernel<T, N>, static_cast<unsigned>(rows), ThreadsOfRow(width / N), 0, stream_, x.as<T>(),
             width, Parameters(weight), eps, out.as<T>());
    });
  });
}

void CudaBackend::AddRmsNorm(const Tensor& x, const Tensor& y, const Tensor* scale, const Tensor& weight,
                             float eps, const Tensor& out) {
  const int64_t rows = x.rows(), width = x.cols();
  if (rows == 0 || width == 0) return;
  WithElement(x.dtype, [&]<typename X>(X*) {
    WithElement(y.dtype, [&]<typename Y>(Y*) {
      WithPacks(width, [&]<int N>(std::integral_constant<int, N>) {
        Launch(AddRmsNormKernel<X, Y, N>, static_cast<unsigned>(rows), ThreadsOfRow(width / N), 0, stream_,
               x.as<X>(), y.as<Y>(), width, Parameters(scale), Parameters(weight), eps, out.as<X>());
      });
    });
  });
}

void CudaBackend::LayerNorm(const Tensor& x, const Tensor& weight, const Tensor& bias, float eps,
                            const Tensor& out) {
  const int64_t rows = x.rows(), width = x.cols();
  if (rows == 0 || width == 0) return;
  WithElement(x.dtype, [&]<typename T>(T*) {
    WithPacks(width, [&]<int N>(std::integral_constant<int, N>) {
      Launch(LayerNormKernel<T, N>, static_cast<unsigned>(rows), ThreadsOfRow(width / N), 0, stream_,
             x.as<T>(), width, Parameters(weight), Parameters(bias), eps, out.as<T>());
    });
  });
}

void CudaBackend::QkSumSquares(const Tensor& qkv, const Tensor& out) {
  const int64_t rows = qkv.rows(), width = qkv.cols() / 3;
  if (rows == 0) return;
  if (width == 0) return Zero(out.data, static_cast<size_t>(out.bytes()));
  WithElement(qkv.dtype, [&]<typename T>(T*) {
    WithPacks(width, [&]<int N>(std::integral_constant<int, N>) {
      Launch(QkSumSquaresKernel<T, N>, dim3(static_cast<unsigned>(rows), 2), ThreadsOfRow(width / N), 0,
             stream_, qkv.as<T>(), width, out.as<float>());
    });
  });
}

void CudaBackend::QkNorm(const Tensor& qkv, const Tensor& q_weight, const Tensor& k_weight,
                         const Tensor& sums, float norm_width, float eps) {
  const int64_t width = qkv.cols() / 3;
  WithElement(qkv.dtype, [&]<typename T>(T*) {
    WithPacks(width, [&]<int N>(std::integral_constant<int, N>) {
      RowGrid threads(qkv.rows(), width / N);
      if (threads.empty) return;
      threads.grid.z = 2;
      Launch(QkNormKernel<T, N>, threads.grid, threads.block, 0, stream_, qkv.as<T>(), width,
             Parameters(q_weight), Parameters(k_weight), sums.as<float>(), norm_width, eps);
    });
  });
}

}  // namespace internvl::cuda
