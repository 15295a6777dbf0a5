#include "matmul.h"

#include <algorithm>
#include <oneapi/dnnl/dnnl.hpp>

#include "call.h"
#include "cpu.h"
#include "parallel.h"
#include "row_math.h"
#include "row_products.h"

namespace internvl {

struct Product {
  dnnl::matmul primitive;
  dnnl::memory::desc x, weight, bias, out, scratch;
};

struct Matmul::Engine {
  dnnl::engine engine{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream{engine};
};

namespace {

constexpr size_t kMaxProducts = 512;
constexpr int64_t kFewRows = 4;

dnnl::memory::data_type DataType(DType dtype) {
  return dtype == DType::kFloat32 ? dnnl::memory::data_type::f32 : dnnl::memory::data_type::bf16;
}

/// The tensor's values as float32: itself, or a widened copy in the arena.
const float* AsFloat32(const Tensor& tensor, Scratch& scratch) {
  if (tensor.dtype == DType::kFloat32) return tensor.as<float>();
  float* copy = scratch.Get<float>(tensor.elements());
  const int64_t width = tensor.cols();
  ParallelFor(tensor.rows(), tensor.elements(),
              [&](int64_t row, int) { Widen(tensor.row<BFloat16>(row), copy + row * width, width); });
  return copy;
}

/// Adds the bias to float32 sums [T, N] and rounds them into out (which may be where the sums are).
void Finish(float* sums, const float* bias, const Tensor& out) {
  const int64_t n = out.cols();
  ParallelFor(out.rows(), out.elements(), [&](int64_t row, int) {
    float* from = sums + row * n;
    if (bias != nullptr) AddRow(bias, from, n);
    if (out.dtype == DType::kBFloat16) Narrow(from, out.row<BFloat16>(row), n);
  });
}

}  // namespace

Matmul::Matmul() = default;
Matmul::~Matmul() = default;

void Matmul::Run(const Tensor& x, const Tensor& weight, const Tensor* bias, const Tensor& out, Arena& arena) {
  if (out.elements() == 0) return;
  if (x.cols() == 0 || x.rows() <= kFewRows) return FewRows(x, weight, bias, out, arena);
  const bool float32 = x.dtype == DType::kFloat32 && weight.dtype == DType::kFloat32;
  const bool bfloat16 =
      x.dtype == DType::kBFloat16 && weight.dtype == DType::kBFloat16 && HasBFloat16Matmul();
  if (bfloat16 || (float32 && out.dtype == DType::kFloat32)) return Direct(x, weight, bias, out, arena);
  Widened(x, weight, bias, out, arena);
}

void Matmul::FewRows(const Tensor& x, const Tensor& weight, const Tensor* bias, const Tensor& out,
                     Arena& arena) {
  Scratch scratch(arena);
  const float* wide = AsFloat32(x, scratch);
  const float* wide_bias = bias == nullptr ? nullptr : AsFloat32(*bias, scratch);
  const int64_t rows = x.rows(), k = x.cols(), n = out.cols();
  float* sums = out.dtype == DType::kFloat32 ? out.as<float>() : scratch.Get<float>(out.elements());
  constexpr int64_t kBlock = 32;  // weight rows per turn
  WithElement(weight.dtype, [&]<typename W>(W*) {
    ParallelFor((n + kBlock - 1) / kBlock, n * k, [&](int64_t block, int) {
      const int64_t first = block * kBlock;
      DotRows(wide, rows, k, weight.row<W>(first), k, std::min(kBlock, n - first), sums + first, n);
    });
  });
  Finish(sums, wide_bias, out);
}

Product& Matmul::Find(const Shape& shape) {
  const auto found = by_shape_.find(shape);
  if (found != by_shape_.end()) {
    products_.splice(products_.begin(), products_, found->second);
    return found->second->second;
  }
  using Desc = dnnl::memory::desc;
  if (!engine_) engine_ = std::make_unique<Engine>();
  Product product;
  product.x = Desc({shape.t, shape.k}, DataType(shape.x), {shape.k, 1});
  product.weight = Desc({shape.k, shape.n}, DataType(shape.weight), {1, shape.k});
  product.out = Desc({shape.t, shape.n}, DataType(shape.out), {shape.n, 1});
  if (shape.bias != 0) {
    product.bias =
        Desc({1, shape.n}, DataType(shape.bias == 1 ? DType::kFloat32 : DType::kBFloat16), {shape.n, 1});
  }
  dnnl::primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  const auto description = shape.bias != 0
                               ? dnnl::matmul::desc(product.x, product.weight, product.bias, product.out)
                               : dnnl::matmul::desc(product.x, product.weight, product.out);
  const dnnl::matmul::primitive_desc chosen(description, attributes, engine_->engine);
  product.primitive = dnnl::matmul(chosen);
  product.scratch = chosen.scratchpad_desc();
  if (products_.size() == kMaxProducts) {
    by_shape_.erase(products_.back().first);
    products_.pop_back();
  }
  products_.emplace_front(shape, std::move(product));
  by_shape_.emplace(shape, products_.begin());
  return products_.front().second;
}

void Matmul::Direct(const Tensor& x, const Tensor& weight, const Tensor* bias, const Tensor& out,
                    Arena& arena) {
  const int bias_kind = bias == nullptr ? 0 : bias->dtype == DType::kFloat32 ? 1 : 2;
  // oneDNN takes a bfloat16 bias only with bfloat16 factors.
  Scratch scratch(arena);
  const bool widen_bias = bias_kind == 2 && x.dtype == DType::kFloat32;
  void* bias_data = bias == nullptr ? nullptr
                    : widen_bias    ? const_cast<float*>(AsFloat32(*bias, scratch))
                                    : bias->data;
  Product& product = Find({.t = x.rows(),
                           .n = out.cols(),
                           .k = x.cols(),
                           .x = x.dtype,
                           .weight = weight.dtype,
                           .out = out.dtype,
                           .bias = widen_bias ? 1 : bias_kind});
  const dnnl::engine& engine = engine_->engine;
  std::unordered_map<int, dnnl::memory> arguments{
      {DNNL_ARG_SRC, dnnl::memory(product.x, engine, x.data)},
      {DNNL_ARG_WEIGHTS, dnnl::memory(product.weight, engine, weight.data)},
      {DNNL_ARG_DST, dnnl::memory(product.out, engine, out.data)},
  };
  if (bias != nullptr) arguments.emplace(DNNL_ARG_BIAS, dnnl::memory(product.bias, engine, bias_data));
  const auto scratch_bytes = static_cast<int64_t>(product.scratch.get_size());
  if (scratch_bytes > 0) {
    arguments.emplace(DNNL_ARG_SCRATCHPAD,
                      dnnl::memory(product.scratch, engine, scratch.Get<uint8_t>(scratch_bytes)));
  }
  product.primitive.execute(engine_->stream, arguments);
  engine_->stream.wait();
}

void Matmul::Widened(const Tensor& x, const Tensor& weight, const Tensor* bias, const Tensor& out,
                     Arena& arena) {
  Scratch scratch(arena);
  const float* wide = AsFloat32(x, scratch);
  const float* wide_bias = bias == nullptr ? nullptr : AsFloat32(*bias, scratch);
  const int64_t rows = x.rows(), k = x.cols(), n = out.cols();
  float* sums = out.dtype == DType::kFloat32 ? out.as<float>() : scratch.Get<float>(out.elements());
  constexpr int64_t kTile = 256;  // weight rows that are widened at a time
  float* tile = weight.dtype == DType::kFloat32 ? nullptr : scratch.Get<float>(std::min(kTile, n) * k);
  const int64_t step = tile == nullptr ? n : kTile;
  for (int64_t first = 0; first < n; first += step) {
    const int64_t count = std::min(step, n - first);
    const float* factor = tile;
    if (tile == nullptr) {
      factor = weight.as<float>();
    } else {
      ParallelFor(count, count * k,
                  [&](int64_t r, int) { Widen(weight.row<BFloat16>(first + r), tile + r * k, k); });
    }
    const dnnl_status_t status =
        dnnl_sgemm('N', 'T', rows, count, k, 1.0f, wide, k, factor, k, 0.0f, sums + first, n);
    if (status != dnnl_success) throw dnnl::error(status, "oneDNN could not multiply");
  }
  Finish(sums, wide_bias, out);
}

}  // namespace internvl
