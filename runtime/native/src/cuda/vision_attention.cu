// Bidirectional attention of the vision encoder.
//
// One layer of one image, 25 heads of 128 over 1025 tokens: 4 * 1025^2 * 3200 = 13.4 GFLOP, 17 us at 790
// TFLOP/s; qkv read and out written once are 26.2 MB, 8.7 us at 3.0 TB/s: bound by the products. mma.sync
// reaches 60 to 65 % of that rate, 27 us; the 26.3 million exponentials, 16 a cycle and multiprocessor, are 7
// us beside them. It stays with mma.sync: attention is 5 % of the encoder's FLOPs. One image has 225 blocks,
// 25 of them with one row, for the 264 places of an H100: 64 of 132 multiprocessors get one block only, so
// that an image alone takes a third longer than its share of several.
#include "cuda_backend.h"
#include "flash_attention.h"
#include "plain_attention.h"
#include "vision_attention.h"

namespace internvl::cuda {
namespace {

template <typename T>
struct Images {
  const T* qkv;
  T* out;
  int length, heads, dim;
  float scale;

  __host__ __device__ int64_t width() const { return static_cast<int64_t>(heads) * dim; }
  /// The queries of a head of an image; its keys are width() further, its values twice that.
  __device__ const T* q(int64_t image, int head) const {
    return qkv + image * length * 3 * width() + static_cast<int64_t>(head) * dim;
  }
  __device__ T* result(int64_t image, int head) const {
    return out + image * length * width() + static_cast<int64_t>(head) * dim;
  }
};

/// One block: a tile of queries of head blockIdx.x of image blockIdx.z. The last tiles, which may be small,
/// come last.
template <int kDim>
__global__ void __launch_bounds__(kFlashThreads, 2)
    FlashImages(const __grid_constant__ Images<BFloat16> images) {
  const int head = static_cast<int>(blockIdx.x), first = static_cast<int>(blockIdx.y) * kFlashRows;
  const BFloat16* const q = images.q(blockIdx.z, head);
  const int64_t width = images.width();
  const QueryTile queries(q, 3 * width, images.result(blockIdx.z, head), width, 1, first, images.length,
                          images.length, images.length);
  FlashAttention<kDim>(queries, DenseKeys(q + width, width, 3 * width), images.scale,
                       DynamicShared<unsigned char>());
}

/// One block: head blockIdx.y of row blockIdx.x.
template <typename T>
__global__ void __launch_bounds__(kPlainThreads) PlainImages(const Images<T> images) {
  const int head = static_cast<int>(blockIdx.y);
  const int64_t image = blockIdx.x / images.length, query = blockIdx.x % images.length;
  const int64_t width = images.width(), stride = 3 * width;
  const T* const q = images.q(image, head);
  PlainAttention(
      q + query * stride, images.dim, images.scale, images.length,
      [&](int64_t i) { return q + width + i * stride; },
      [&](int64_t i) { return q + 2 * width + i * stride; }, images.result(image, head) + query * width,
      DynamicShared<float>());
}

template <int kDim>
void LaunchFlash(const Images<BFloat16>& images, int64_t count, cudaStream_t stream) {
  constexpr int kBytes = FlashSharedBytes<kDim, DenseKeys>();
  AllowDynamicShared(FlashImages<kDim>, kBytes);
  const dim3 grid(static_cast<unsigned>(images.heads),
                  static_cast<unsigned>((images.length + kFlashRows - 1) / kFlashRows),
                  static_cast<unsigned>(count));
  Launch(FlashImages<kDim>, grid, dim3(kFlashThreads), kBytes, stream, images);
}

}  // namespace

void AttendImages(const Tensor& qkv, int64_t length, int64_t heads, int64_t dim, float scale,
                  const Tensor& out, cudaStream_t stream) {
  if (qkv.rows() == 0) return;
  WithElement(qkv.dtype, [&]<typename T>(T*) {
    const Images<T> images{.qkv = qkv.as<T>(),
                           .out = out.as<T>(),
                           .length = static_cast<int>(length),
                           .heads = static_cast<int>(heads),
                           .dim = static_cast<int>(dim),
                           .scale = scale};
    if constexpr (std::is_same_v<T, BFloat16>) {
      if (scale > 0 && dim == 128) return LaunchFlash<128>(images, qkv.rows() / length, stream);
      if (scale > 0 && dim == 64) return LaunchFlash<64>(images, qkv.rows() / length, stream);
    }
    AllowDynamicShared(PlainImages<T>, PlainSharedBytes(dim));
    Launch(PlainImages<T>, dim3(static_cast<unsigned>(qkv.rows()), static_cast<unsigned>(heads)),
           dim3(kPlainThreads), PlainSharedBytes(dim), stream, images);
  });
}

void CudaBackend::VisionAttention(const Tensor& qkv, int64_t length, int64_t heads, int64_t dim, float scale,
                                  const Tensor& out) {
  AttendImages(qkv, length, heads, dim, scale, out, stream());
}

}  // namespace internvl::cuda
