#include "matmul.h"
#include "operations.h"

namespace internvl {

Napi::Value Linear(const Call& call) {
  const Tensor x = call.Matrix(0, "x"), weight = call.Weight(1, "weight");
  if (weight.cols() != x.cols()) {
    call.FailRange("weight " + Describe(weight) + " must have as many columns as x " + Describe(x));
  }
  const bool biased = !call.IsNull(2);
  const Tensor bias = biased ? call.Vector(2, "bias", weight.shape[0]) : Tensor{};
  const DType dtype = call.Type(3, "outDtype", {DType::kFloat32, DType::kBFloat16});
  const Result out = call.Make(dtype, x.rows(), weight.shape[0]);
  call.environment.matmul->Run(x, weight, biased ? &bias : nullptr, out.tensor,
                               call.environment.tensors.arena());
  return out.handle;
}

}  // namespace internvl
