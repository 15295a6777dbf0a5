// Activations, residual additions and conversions, row by row.
#include "operations.h"
#include "parallel.h"
#include "row_math.h"

namespace internvl {

Napi::Value Convert(const Call& call) {
  const Tensor x = call.Matrix(0, "x");
  const int64_t width = x.cols();
  const bool biased = !call.IsNull(1);
  const Tensor bias = biased ? call.Vector(1, "bias", width) : Tensor{};
  const DType dtype = call.Type(2, "dtype", {DType::kFloat32, DType::kBFloat16});
  const Result out = call.Make(dtype, x.rows(), width);
  Scratch scratch(call.environment.tensors.arena());
  float* wide_bias = scratch.Get<float>(width);
  if (biased) WithElement(bias.dtype, [&]<typename T>(T*) { Widen(bias.as<T>(), wide_bias, width); });
  float* buffers = scratch.Get<float>(MaxThreads() * width);
  WithElement(x.dtype, [&]<typename From>(From*) {
    WithElement(dtype, [&]<typename To>(To*) {
      ParallelFor(x.rows(), x.elements(), [&](int64_t r, int thread) {
        float* row = buffers + thread * width;
        Widen(x.row<From>(r), row, width);
        if (biased) AddRow(wide_bias, row, width);
        Narrow(row, out.tensor.row<To>(r), width);
      });
    });
  });
  return out.handle;
}

Napi::Value Gelu(const Call& call) {
  const Tensor x = call.Matrix(0, "x");
  const int64_t width = x.cols();
  Scratch scratch(call.environment.tensors.arena());
  float* buffers = scratch.Get<float>(MaxThreads() * width);
  WithElement(x.dtype, [&]<typename T>(T*) {
    ParallelFor(x.rows(), x.elements(), [&](int64_t r, int thread) {
      float* row = buffers + thread * width;
      Widen(x.row<T>(r), row, width);
      GeluRow(row, width);
      Narrow(row, x.row<T>(r), width);
    });
  });
  return call.env().Undefined();
}

Napi::Value SiluMul(const Call& call) {
  const Tensor gate_up = call.Matrix(0, "gateUp");
  REQUIRE(call, gate_up.cols() % 2 == 0,
          "gateUp " + Describe(gate_up) + " must have an even number of columns");
  const int64_t width = gate_up.cols() / 2;
  const Result out = call.Make(gate_up.dtype, gate_up.rows(), width);
  Scratch scratch(call.environment.tensors.arena());
  float* buffers = scratch.Get<float>(MaxThreads() * 2 * width);
  WithElement(gate_up.dtype, [&]<typename T>(T*) {
    ParallelFor(gate_up.rows(), gate_up.elements(), [&](int64_t r, int thread) {
      float* gate = buffers + thread * 2 * width;
      Widen(gate_up.row<T>(r), gate, 2 * width);
      SiluRow(gate, width);
      RoundRow<T>(gate, width);
      MulRow(gate + width, gate, width);
      Narrow(gate, out.tensor.row<T>(r), width);
    });
  });
  return out.handle;
}

Napi::Value AddScaled(const Call& call) {
  const Tensor x = call.Matrix(0, "x"), y = call.Matrix(1, "y");
  const int64_t width = x.cols();
  if (y.rows() != x.rows() || y.cols() != width) {
    call.FailRange("y " + Describe(y) + " must have the shape of x " + Describe(x));
  }
  const bool scaled = !call.IsNull(2);
  const Tensor scale = scaled ? call.Vector(2, "scale", width) : Tensor{};
  Scratch scratch(call.environment.tensors.arena());
  float* wide_scale = scratch.Get<float>(width);
  if (scaled) WithElement(scale.dtype, [&]<typename T>(T*) { Widen(scale.as<T>(), wide_scale, width); });
  float* buffers = scratch.Get<float>(MaxThreads() * 2 * width);
  WithElement(x.dtype, [&]<typename X>(X*) {
    WithElement(y.dtype, [&]<typename Y>(Y*) {
      ParallelFor(x.rows(), x.elements(), [&](int64_t r, int thread) {
        float* sum = buffers + thread * 2 * width;
        float* term = sum + width;
        Widen(x.row<X>(r), sum, width);
        Widen(y.row<Y>(r), term, width);
        RoundRow<X>(term, width);
        if (scaled) {
          MulRow(wide_scale, term, width);
          RoundRow<X>(term, width);
        }
        AddRow(term, sum, width);
        Narrow(sum, x.row<X>(r), width);
      });
    });
  });
  return call.env().Undefined();
}

}  // namespace internvl
