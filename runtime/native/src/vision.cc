// The vision encoder's data movement: patches, embeddings, pixel shuffle.
#include <cstring>

#include "operations.h"
#include "parallel.h"
#include "row_math.h"

namespace internvl {
namespace {

void ReadTriple(const Call& call, int index, const char* name, float* out) {
  const Napi::Array list = call.List(index, name);
  if (list.Length() != 3) call.FailRange(std::string(name) + " must have 3 elements");
  for (uint32_t c = 0; c < 3; ++c) {
    const Napi::Value value = list.Get(c);
    if (!value.IsNumber()) call.FailType(std::string(name) + " must hold numbers");
    out[c] = value.As<Napi::Number>().FloatValue();
  }
}

}  // namespace

Napi::Value Patchify(const Call& call) {
  const auto pixels = call.Bytes(0, "pixels");
  const int64_t size = call.Integer(1, "size", 1, 1 << 14), patch = call.Integer(2, "patch", 1, size);
  float mean[3], std[3];
  ReadTriple(call, 3, "mean", mean);
  ReadTriple(call, 4, "std", std);
  const DType dtype = call.Type(5, "dtype", {DType::kFloat32, DType::kBFloat16});
  REQUIRE(call, size % patch == 0,
          "size " + std::to_string(size) + " must be a multiple of patch " + std::to_string(patch));
  REQUIRE(
      call, static_cast<int64_t>(pixels.size()) == size * size * 3,
      "pixels must have " + std::to_string(size * size * 3) + " bytes, not " + std::to_string(pixels.size()));
  // Only 256 values per channel: normalised once.
  float normalised[3][256];
  for (int c = 0; c < 3; ++c) {
    for (int v = 0; v < 256; ++v) normalised[c][v] = (static_cast<float>(v) / 255.0f - mean[c]) / std[c];
  }
  const int64_t side = size / patch;
  const Result out = call.Make(dtype, side * side, 3 * patch * patch);
  WithElement(dtype, [&]<typename T>(T*) {
    ParallelFor(side * side, size * size * 3, [&](int64_t index, int) {
      const uint8_t* corner = pixels.data() + ((index / side) * patch * size + (index % side) * patch) * 3;
      T* to = out.tensor.row<T>(index);
      for (int64_t c = 0; c < 3; ++c) {
        for (int64_t row = 0; row < patch; ++row) {
          const uint8_t* from = corner + row * size * 3 + c;
          for (int64_t col = 0; col < patch; ++col) *to++ = FromFloat<T>(normalised[c][from[col * 3]]);
        }
      }
    });
  });
  return out.handle;
}

Napi::Value VisionEmbed(const Call& call) {
  const Tensor patches = call.Matrix(0, "patches");
  const int64_t width = patches.cols(), rows = patches.rows() + 1;
  const Tensor class_embedding = call.Vector(1, "classEmbedding", width);
  const Tensor position = call.MatrixOf(2, "position", patches.dtype, rows, width);
  if (class_embedding.dtype != patches.dtype) {
    call.FailType("classEmbedding " + Describe(class_embedding) + " must have the dtype of patches " +
                  Describe(patches));
  }
  const Result out = call.Make(patches.dtype, rows, width);
  WithElement(patches.dtype, [&]<typename T>(T*) {
    ParallelFor(rows, rows * width, [&](int64_t r, int) {
      const T* from = r == 0 ? class_embedding.as<T>() : patches.row<T>(r - 1);
      const T* place = position.row<T>(r);
      T* to = out.tensor.row<T>(r);
      for (int64_t i = 0; i < width; ++i) to[i] = FromFloat<T>(ToFloat(from[i]) + ToFloat(place[i]));
    });
  });
  return out.handle;
}

Napi::Value PixelShuffle(const Call& call) {
  const Tensor x = call.Matrix(0, "x");
  const int64_t side = call.Integer(1, "side", 2, 1 << 14), version = call.Integer(2, "version", 1, 2);
  REQUIRE(call, side % 2 == 0, "side must be even, not " + std::to_string(side));
  REQUIRE(call, x.rows() == 1 + side * side,
          "x " + Describe(x) + " must have 1 + side^2 = " + std::to_string(1 + side * side) + " rows");
  const int64_t width = x.cols(), half = side / 2;
  const Result out = call.Make(x.dtype, half * half, 4 * width);
  const int64_t row_bytes = width * ElementBytes(x.dtype);
  const uint8_t* grid = x.as<uint8_t>() + row_bytes;  // without the class row
  ParallelFor(half * half, x.elements(), [&](int64_t token, int) {
    const int64_t a = version == 1 ? token % half : token / half;  // pair of rows
    const int64_t b = version == 1 ? token / half : token % half;  // pair of columns
    uint8_t* to = out.tensor.as<uint8_t>() + token * 4 * row_bytes;
    for (int64_t part = 0; part < 4; ++part) {
      const int64_t from = (2 * a + part / 2) * side + 2 * b + part % 2;
      std::memcpy(to + part * row_bytes, grid + from * row_bytes, static_cast<size_t>(row_bytes));
    }
  });
  return out.handle;
}

}  // namespace internvl
