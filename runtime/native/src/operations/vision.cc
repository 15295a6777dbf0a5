// What only the vision encoder and the projector need.
#include "../operations.h"

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
  call.backend().Patchify(pixels, size, patch, normalised, out.tensor);
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
  call.backend().VisionEmbed(patches, class_embedding, position, out.tensor);
  return out.handle;
}

Napi::Value VisionAttention(const Call& call) {
  const Tensor qkv = call.Matrix(0, "qkv");
  const int64_t length = call.Integer(1, "length", 1, 1 << 20),
                heads = call.Integer(2, "numHeads", 1, 1 << 20), dim = call.Integer(3, "headDim", 1, 1 << 14),
                width = heads * dim;
  const auto scale = static_cast<float>(call.Number(4, "scale"));
  REQUIRE(
      call, qkv.cols() == 3 * width,
      "qkv " + Describe(qkv) + " must have 3 numHeads headDim = " + std::to_string(3 * width) + " columns");
  REQUIRE(call, qkv.rows() % length == 0,
          "qkv " + Describe(qkv) + " must have a multiple of length = " + std::to_string(length) + " rows");
  const Result out = call.Make(qkv.dtype, qkv.rows(), width);
  call.backend().VisionAttention(qkv, length, heads, dim, scale, out.tensor);
  return out.handle;
}

Napi::Value PixelShuffle(const Call& call) {
  const Tensor x = call.Matrix(0, "x");
  const int64_t side = call.Integer(1, "side", 2, 1 << 14), version = call.Integer(2, "version", 1, 2);
  REQUIRE(call, side % 2 == 0, "side must be even, not " + std::to_string(side));
  REQUIRE(call, x.rows() == 1 + side * side,
          "x " + Describe(x) + " must have 1 + side^2 = " + std::to_string(1 + side * side) + " rows");
  const Result out = call.Make(x.dtype, side * side / 4, 4 * x.cols());
  call.backend().PixelShuffle(x, side, static_cast<int>(version), out.tensor);
  return out.handle;
}

}  // namespace internvl
