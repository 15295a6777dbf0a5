// The vision encoder's data movement: patches, embeddings, pixel shuffle.
#include "cuda_backend.h"
#include "packs.h"
#include "row_copy.h"

namespace internvl::cuda {
namespace {

/// What each of the 256 values of each channel stands for.
struct Normalised {
  float of[3][256];
};

/// blockIdx.x is the patch; a thread writes one element: channel, row, column. A block reads the lines of its
/// patch once for all three channels: the cache has them after the first.
template <typename T>
__global__ void __launch_bounds__(RowGrid::kThreads)
    PatchifyKernel(const uint8_t* pixels, const Normalised* normalised, int size, int patch, T* out) {
  const int i = static_cast<int>(PackOfRow()), area = patch * patch;
  if (i >= 3 * area) return;
  const int channel = i / area, row = i % area / patch, column = i % patch;
  const int side = size / patch, patch_index = static_cast<int>(blockIdx.x);
  const int64_t y = patch_index / side * patch + row, x = patch_index % side * patch + column;
  const uint8_t pixel = pixels[(y * size + x) * 3 + channel];
  const float value[1] = {normalised->of[channel][pixel]};
  StorePack(value, out + int64_t{blockIdx.x} * 3 * area + i);
}

/// Reads 2 * width elements of a row, writes width.
template <typename T, int N>
__global__ void __launch_bounds__(RowGrid::kThreads)
    VisionEmbedKernel(const T* patches, const T* class_embedding, const T* position, int64_t width, T* out) {
  const int64_t i = PackOfRow() * N, row = blockIdx.x;
  if (i >= width) return;
  float values[N], places[N];
  LoadPack(row == 0 ? class_embedding + i : patches + (row - 1) * width + i, values);
  LoadPack(position + row * width + i, places);
#pragma unroll
  for (int j = 0; j < N; ++j) values[j] += places[j];
  StorePack(values, out + row * width + i);
}

/// Where each quarter of a row of the result comes from: a 2 x 2 square of the grid, whose rows follow the
/// class row.
struct PixelOfQuarter {
  int64_t side;
  bool down_columns;

  __device__ int64_t operator()(int64_t quarter) const {
    const int64_t token = quarter / 4, part = quarter % 4, half = side / 2;
    const int64_t rows = down_columns ? token % half : token / half;     // pair of rows
    const int64_t columns = down_columns ? token / half : token % half;  // pair of columns
    return 1 + (2 * rows + part / 2) * side + 2 * columns + part % 2;
  }
};

}  // namespace

void CudaBackend::Patchify(std::span<const uint8_t> pixels, int64_t size, int64_t patch,
                           const float (&normalised)[3][256], const Tensor& out) {
  const RowGrid threads(out.rows(), out.cols());
  if (threads.empty) return;
  // The values as floats come from the host, so that they are the CPU's to the bit.
  Scratch scratch(arena());
  auto* table = scratch.Get<Normalised>(1);
  auto* bytes = scratch.Get<uint8_t>(static_cast<int64_t>(pixels.size()));
  Upload(table, normalised, sizeof(normalised));
  Upload(bytes, pixels.data(), pixels.size());
  WithElement(out.dtype, [&]<typename T>(T*) {
    Launch(PatchifyKernel<T>, threads.grid, threads.block, 0, stream_, bytes, table, size, patch,
           out.as<T>());
  });
}

void CudaBackend::VisionEmbed(const Tensor& patches, const Tensor& class_embedding, const Tensor& position,
                              const Tensor& out) {
  const int64_t width = out.cols();
  WithElement(patches.dtype, [&]<typename T>(T*) {
    WithPacks(width, [&]<int N>(std::integral_constant<int, N>) {
      const RowGrid threads(out.rows(), width / N);
      if (threads.empty) return;
      Launch(VisionEmbedKernel<T, N>, threads.grid, threads.block, 0, stream_, patches.as<T>(),
             class_embedding.as<T>(), position.as<T>(), width, out.as<T>());
    });
  });
}

void CudaBackend::PixelShuffle(const Tensor& x, int64_t side, int version, const Tensor& out) {
  CopyRows(x.data, x.cols() * ElementBytes(x.dtype), PixelOfQuarter{side, version == 1}, out.data,
           out.rows() * 4, stream_);
}

}  // namespace internvl::cuda
