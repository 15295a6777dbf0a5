// Matrix products x [T, K] times weight [N, K] transposed. Chooses between our own kernels (few rows),
// cuBLASLt in the tensors' types, cuBLASLt in e4m3 with x rounded to it, and cuBLASLt over widened tiles of
// the weight.
#pragma once

#include "../tensor.h"
#include "lt_products.h"
#include "sums_out.h"

namespace internvl::cuda {

class Matmul {
 public:
  /// Throws DeviceError where cuBLASLt is missing.
  Matmul(cudaStream_t stream, MemorySource& memory);

  /// out [T, N] = x [T, K] * weight [N, K]^T + bias [N] (null: none); x, bias and out float32 or bfloat16,
  /// weight also int8 or float8. The sum is float32 and rounded once. Factors are multiplied as bfloat16
  /// where x is and the weight is no float32, else as float32 (never TF32). Of more than 16 rows with a
  /// float8 weight, bfloat16 ones are rounded to e4m3 and a scale each, where the device multiplies e4m3.
  /// Waits for nothing; with shapes that came before, in an arena that has been as full before, it allocates
  /// nothing: a stream may be capturing.
  void Run(const Tensor& x, const Tensor& weight, const Tensor* bias, const Tensor& out, Arena& arena);

  /// See LtProducts::Measure.
  void Measure(bool on) { products_.Measure(on); }
  int64_t measured() const { return products_.measured(); }

 private:
  bool Float8Rows(const Tensor& x, const Tensor& weight, const Tensor* bias, const Tensor& out, Arena& arena);
  bool ManyRows(const Tensor& x, const Tensor& weight, const Tensor* bias, const Tensor& out, Arena& arena);

  const cudaStream_t stream_;
  const bool has_float8_;  // the device's tensor cores multiply e4m3: from sm_89 on
  LtProducts products_;
};

}  // namespace internvl::cuda
