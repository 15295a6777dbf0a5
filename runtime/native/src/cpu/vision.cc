// The vision encoder's data movement: patches, embeddings, pixel shuffle.
#include <cstring>

#include "cpu_backend.h"
#include "parallel.h"
#include "row_math.h"

namespace internvl {

void CpuBackend::Patchify(std::span<const uint8_t> pixels, int64_t size, int64_t patch,
                          const float (&normalised)[3][256], const Tensor& out) {
  const int64_t side = size / patch;
  WithElement(out.dtype, [&]<typename T>(T*) {
    ParallelFor(side * side, size * size * 3, [&](int64_t index, int) {
      const uint8_t* corner = pixels.data() + ((index / side) * patch * size + (index % side) * patch) * 3;
      T* to = out.row<T>(index);
      for (int64_t c = 0; c < 3; ++c) {
        for (int64_t row = 0; row < patch; ++row) {
          const uint8_t* from = corner + row * size * 3 + c;
          for (int64_t col = 0; col < patch; ++col) *to++ = FromFloat<T>(normalised[c][from[col * 3]]);
        }
      }
    });
  });
}

void CpuBackend::VisionEmbed(const Tensor& patches, const Tensor& class_embedding, const Tensor& position,
                             const Tensor& out) {
  const int64_t width = patches.cols(), rows = out.rows();
  WithElement(patches.dtype, [&]<typename T>(T*) {
    ParallelFor(rows, rows * width, [&](int64_t r, int) {
      const T* from = r == 0 ? class_embedding.as<T>() : patches.row<T>(r - 1);
      const T* place = position.row<T>(r);
      T* to = out.row<T>(r);
      for (int64_t i = 0; i < width; ++i) to[i] = FromFloat<T>(ToFloat(from[i]) + ToFloat(place[i]));
    });
  });
}

void CpuBackend::PixelShuffle(const Tensor& x, int64_t side, int version, const Tensor& out) {
  const int64_t half = side / 2, row_bytes = x.cols() * ElementBytes(x.dtype);
  const uint8_t* grid = x.as<uint8_t>() + row_bytes;  // without the class row
  ParallelFor(half * half, x.elements(), [&](int64_t token, int) {
    const int64_t a = version == 1 ? token % half : token / half;  // pair of rows
    const int64_t b = version == 1 ? token / half : token % half;  // pair of columns
    uint8_t* to = out.as<uint8_t>() + token * 4 * row_bytes;
    for (int64_t part = 0; part < 4; ++part) {
      const int64_t from = (2 * a + part / 2) * side + 2 * b + part % 2;
      std::memcpy(to + part * row_bytes, grid + from * row_bytes, static_cast<size_t>(row_bytes));
    }
  });
}

}  // namespace internvl
