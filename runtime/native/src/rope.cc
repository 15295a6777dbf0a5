// Rotary position embedding (pairs i, i + headDim/2) and the write into the paged cache.
#include <cstring>

#include "operations.h"
#include "parallel.h"
#include "row_math.h"

namespace internvl {
namespace {

template <typename T>
void RotateHead(T* head, const float* cos, const float* sin, int64_t half) {
  for (int64_t i = 0; i < half; ++i) {
    const float low = ToFloat(head[i]), high = ToFloat(head[i + half]);
    head[i] = FromFloat<T>(Rounded<T>(low * cos[i]) + Rounded<T>(-high * sin[i]));
    head[i + half] = FromFloat<T>(Rounded<T>(high * cos[i]) + Rounded<T>(low * sin[i]));
  }
}

}  // namespace

Napi::Value RopeAndStoreKv(const Call& call) {
  const int64_t num_heads = call.Integer(6, "numHeads", 1, 1 << 20),
                num_kv_heads = call.Integer(7, "numKvHeads", 1, 1 << 20);
  const int64_t head_dim = call.Integer(8, "headDim", 2, 1 << 14);
  const int64_t kv_width = num_kv_heads * head_dim;
  const Tensor qkv = call.Matrix(0, "qkv");
  const int64_t rows = qkv.rows(), width = (num_heads + 2 * num_kv_heads) * head_dim;
  REQUIRE(call, qkv.cols() == width,
          "qkv " + Describe(qkv) + " must have (numHeads + 2 numKvHeads) headDim = " + std::to_string(width) +
              " columns");
  REQUIRE(call, head_dim % 2 == 0, "headDim must be even, not " + std::to_string(head_dim));
  const auto positions = call.Int32s(1, "positions"), slots = call.Int32s(2, "slots");
  const Tensor cos_sin = call.MatrixOf(3, "cosSin", DType::kFloat32, -1, head_dim);
  const Tensor k_cache = call.MatrixOf(4, "kCache", qkv.dtype, -1, kv_width);
  const Tensor v_cache = call.MatrixOf(5, "vCache", qkv.dtype, k_cache.rows(), kv_width);
  REQUIRE(call, static_cast<int64_t>(positions.size()) == rows && static_cast<int64_t>(slots.size()) == rows,
          "positions and slots must have one element per row of qkv " + Describe(qkv));
  for (int64_t r = 0; r < rows; ++r) {
    REQUIRE(call, positions[r] >= 0 && positions[r] < cos_sin.rows(),
            "positions holds " + std::to_string(positions[r]) + ", outside cosSin " + Describe(cos_sin));
    REQUIRE(call, slots[r] >= 0 && slots[r] < k_cache.rows(),
            "slots holds " + std::to_string(slots[r]) + ", outside kCache " + Describe(k_cache));
  }
  Scratch scratch(call.environment.tensors.arena());
  float* buffers = scratch.Get<float>(MaxThreads() * head_dim);
  WithElement(qkv.dtype, [&]<typename T>(T*) {
    ParallelFor(rows, qkv.elements(), [&](int64_t r, int thread) {
      float* angles = buffers + thread * head_dim;
      Widen(cos_sin.row<float>(positions[r]), angles, head_dim);
      RoundRow<T>(angles, head_dim);
      T* row = qkv.row<T>(r);
      for (int64_t h = 0; h < num_heads + num_kv_heads; ++h) {
        RotateHead(row + h * head_dim, angles, angles + head_dim / 2, head_dim / 2);
      }
      const T* k = row + num_heads * head_dim;
      std::memcpy(k_cache.row<T>(slots[r]), k, static_cast<size_t>(kv_width) * sizeof(T));
      std::memcpy(v_cache.row<T>(slots[r]), k + kv_width, static_cast<size_t>(kv_width) * sizeof(T));
    });
  });
  return call.env().Undefined();
}

}  // namespace internvl
