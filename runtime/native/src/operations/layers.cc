// What the layers of both models are made of.
#include "../operations.h"

namespace internvl {
namespace {

/// A vector, or null.
class MaybeVector {
 public:
  MaybeVector(const Call& call, int index, const char* name, int64_t size) {
    if (call.IsNull(index)) return;
    vector_ = call.Vector(index, name, size);
    given_ = true;
  }
  operator const Tensor*() const { return given_ ? &vector_ : nullptr; }

 private:
  Tensor vector_;
  bool given_ = false;
};

Tensor MatrixLike(const Call& call, int index, const char* name, const Tensor& x) {
  const Tensor y = call.Matrix(index, name);
  if (y.rows() != x.rows() || y.cols() != x.cols()) {
    call.FailRange(name + (" " + Describe(y)) + " must have the shape of x " + Describe(x));
  }
  return y;
}

/// The width of each of queries, keys and values.
int64_t ThirdOf(const Call& call, const Tensor& qkv) {
  REQUIRE(call, qkv.cols() % 3 == 0, "qkv " + Describe(qkv) + " must have a multiple of 3 columns");
  return qkv.cols() / 3;
}

}  // namespace

Napi::Value Linear(const Call& call) {
  const Tensor x = call.Matrix(0, "x"), weight = call.Weight(1, "weight");
  if (weight.cols() != x.cols()) {
    call.FailRange("weight " + Describe(weight) + " must have as many columns as x " + Describe(x));
  }
  const MaybeVector bias(call, 2, "bias", weight.shape[0]);
  const DType dtype = call.Type(3, "outDtype", {DType::kFloat32, DType::kBFloat16});
  const Result out = call.Make(dtype, x.rows(), weight.shape[0]);
  call.backend().Linear(x, weight, bias, out.tensor);
  return out.handle;
}

Napi::Value Convert(const Call& call) {
  const Tensor x = call.Matrix(0, "x");
  const MaybeVector bias(call, 1, "bias", x.cols());
  const DType dtype = call.Type(2, "dtype", {DType::kFloat32, DType::kBFloat16});
  const Result out = call.Make(dtype, x.rows(), x.cols());
  call.backend().Convert(x, bias, out.tensor);
  return out.handle;
}

Napi::Value RmsNorm(const Call& call) {
  const Tensor x = call.Matrix(0, "x"), weight = call.Vector(1, "weight", x.cols());
  const auto eps = static_cast<float>(call.Number(2, "eps"));
  const Result out = call.Make(x.dtype, x.rows(), x.cols());
  call.backend().RmsNorm(x, weight, eps, out.tensor);
  return out.handle;
}

Napi::Value LayerNorm(const Call& call) {
  const Tensor x = call.Matrix(0, "x");
  const Tensor weight = call.Vector(1, "weight", x.cols()), bias = call.Vector(2, "bias", x.cols());
  const auto eps = static_cast<float>(call.Number(3, "eps"));
  const Result out = call.Make(x.dtype, x.rows(), x.cols());
  call.backend().LayerNorm(x, weight, bias, eps, out.tensor);
  return out.handle;
}

Napi::Value QkSumSquares(const Call& call) {
  const Tensor qkv = call.Matrix(0, "qkv");
  ThirdOf(call, qkv);
  const Result out = call.Make(DType::kFloat32, qkv.rows(), 2);
  call.backend().QkSumSquares(qkv, out.tensor);
  return out.handle;
}

Napi::Value QkNorm(const Call& call) {
  const Tensor qkv = call.Matrix(0, "qkv");
  const int64_t width = ThirdOf(call, qkv);
  const Tensor q_weight = call.Vector(1, "qWeight", width), k_weight = call.Vector(2, "kWeight", width);
  const Tensor sums = call.MatrixOf(3, "sums", DType::kFloat32, qkv.rows(), 2);
  const auto norm_width = static_cast<float>(call.Integer(4, "normWidth", 1));
  const auto eps = static_cast<float>(call.Number(5, "eps"));
  call.backend().QkNorm(qkv, q_weight, k_weight, sums, norm_width, eps);
  return call.env().Undefined();
}

Napi::Value Gelu(const Call& call) {
  call.backend().Gelu(call.Matrix(0, "x"));
  return call.env().Undefined();
}

Napi::Value SiluMul(const Call& call) {
  const Tensor gate_up = call.Matrix(0, "gateUp");
  REQUIRE(call, gate_up.cols() % 2 == 0,
          "gateUp " + Describe(gate_up) + " must have an even number of columns");
  const Result out = call.Make(gate_up.dtype, gate_up.rows(), gate_up.cols() / 2);
  call.backend().SiluMul(gate_up, out.tensor);
  return out.handle;
}

Napi::Value AddScaled(const Call& call) {
  const Tensor x = call.Matrix(0, "x"), y = MatrixLike(call, 1, "y", x);
  const MaybeVector scale(call, 2, "scale", x.cols());
  call.backend().AddScaled(x, y, scale);
  return call.env().Undefined();
}

Napi::Value AddRmsNorm(const Call& call) {
  const Tensor x = call.Matrix(0, "x"), y = MatrixLike(call, 1, "y", x);
  const MaybeVector scale(call, 2, "scale", x.cols());
  const Tensor weight = call.Vector(3, "weight", x.cols());
  const auto eps = static_cast<float>(call.Number(4, "eps"));
  if (call.IsNull(5)) {
    const Result out = call.Make(x.dtype, x.rows(), x.cols());
    call.backend().AddRmsNorm(x, y, scale, weight, eps, out.tensor);
    return out.handle;
  }
  const Tensor into = call.MatrixOf(5, "into", x.dtype, x.rows(), x.cols());
  REQUIRE(call, x.elements() == 0 || (into.data != x.data && into.data != y.data),
          "into must be another tensor than x and y");
  call.backend().AddRmsNorm(x, y, scale, weight, eps, into);
  return call[5];
}

}  // namespace internvl
