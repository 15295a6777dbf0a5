// Matrix products x [T, K] times weight [N, K] transposed. Chooses between our own row kernels (few rows),
// oneDNN in the tensors' types, and oneDNN's float32 product over widened tiles of the weight (bfloat16 on
// CPUs without it).
#pragma once

#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <utility>

#include "../memory.h"
#include "../tensor.h"

namespace internvl {

struct Product;  // a oneDNN primitive and its descriptions

class Matmul {
 public:
  Matmul();
  ~Matmul();

  /// out [T, N] = x [T, K] * weight [N, K]^T + bias [N] (null: none); x, bias and out float32 or
  /// bfloat16, weight also int8 or float8, for which devices are meant and nothing is tuned here. The sum
  /// is float32 and rounded once.
  void Run(const Tensor& x, const Tensor& weight, const Tensor* bias, const Tensor& out, Arena& arena);

 private:
  struct Shape {
    int64_t t, n, k;
    DType x, weight, out;
    int bias;  // 0: none, 1: float32, 2: bfloat16
    auto operator<=>(const Shape&) const = default;
  };
  struct Engine;

  void FewRows(const Tensor& x, const Tensor& weight, const Tensor* bias, const Tensor& out, Arena& arena);
  void Bytes(const Tensor& x, const Tensor& weight, const Tensor* bias, const Tensor& out, Arena& arena);
  void Pairs(const Tensor& x, const Tensor& weight, const Tensor* bias, const Tensor& out, Arena& arena);
  void Direct(const Tensor& x, const Tensor& weight, const Tensor* bias, const Tensor& out, Arena& arena);
  /// Widens the weight a tile at a time to F: any weight to float, a quantized one also to BFloat16.
  template <typename F>
  void Tiled(const Tensor& x, const Tensor& weight, const Tensor* bias, const Tensor& out, Arena& arena);
  Product& Find(const Shape& shape);

  std::unique_ptr<Engine> engine_;
  // Least recently used products last, bounded: the number of rows differs from step to step.
  std::list<std::pair<Shape, Product>> products_;
  std::map<Shape, std::list<std::pair<Shape, Product>>::iterator> by_shape_;
};

}  // namespace internvl
