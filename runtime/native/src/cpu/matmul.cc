#include "matmul.h"

#include <algorithm>
#include <oneapi/dnnl/dnnl.hpp>
#include <type_traits>

#include "byte_products.h"
#include "cpu.h"
#include "digit_products.h"
#include "pair_products.h"
#include "parallel.h"
#include "quantized_rows.h"
#include "row_math.h"
#include "row_products.h"
#include "tile_products.h"
#include "tiles.h"

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
/// Up to here products row by row beat oneDNN's, which put the weights in another order first, and for which
/// bfloat16 and int8 ones are widened before that.
int64_t MostFewRows(DType weight) { return weight == DType::kFloat32 ? 16 : 48; }
/// Up to here PairRows beats oneDNN, which puts the weights in another order first.
constexpr int64_t kMostPairRows = 48;
/// Up to here ByteProducts beats tiles, and without them as many rows as it takes.
int64_t MostByteRows() { return HasTiles() ? 2 : kMostByteRows; }
constexpr int64_t kTile = 512;  // weight rows that are widened at a time

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

/// Finishes float32 sums [T, count] (sums_stride between rows) of outputs [first, first + count): times the
/// scales of a quantized weight, plus the bias, rounded into out [T, N] (which may be where the sums are).
void Finish(float* sums, int64_t sums_stride, const Tensor& weight, const float* bias, const Tensor& out,
            int64_t first, int64_t count) {
  const float* scales = IsQuantized(weight.dtype) ? weight.scales() + first : nullptr;
  ParallelFor(out.rows(), out.rows() * count, [&](int64_t row, int) {
    float* from = sums + row * sums_stride;
    if (scales != nullptr) MulRow(scales, from, count);
    if (bias != nullptr) AddRow(bias + first, from, count);
    WithElement(out.dtype, [&]<typename T>(T*) {
      T* to = out.row<T>(row) + first;
      if (static_cast<void*>(to) != from) Narrow(from, to, count);
    });
  });
}

/// Where sums of a whole product go before they are finished: where out is float32, there.
float* SumsOf(const Tensor& out, Scratch& scratch) {
  return out.dtype == DType::kFloat32 ? out.as<float>() : scratch.Get<float>(out.elements());
}

Tensor Matrix(DType dtype, int64_t rows, int64_t cols, void* data) {
  return {.dtype = dtype, .dims = 2, .shape = {rows, cols}, .data = data};
}

}  // namespace

Matmul::Matmul() = default;
Matmul::~Matmul() = default;

void Matmul::Run(const Tensor& x, const Tensor& weight, const Tensor* bias, const Tensor& out, Arena& arena) {
  if (out.elements() == 0) return;
  const bool bfloat16 = x.dtype == DType::kBFloat16 && weight.dtype != DType::kFloat32 && HasBFloat16Matmul();
  if (bfloat16 && weight.dtype == DType::kInt8 && x.rows() <= MostByteRows() && HasByteProducts() &&
      x.cols() <= kMostByteDepth) {
    return Bytes(x, weight, bias, out, arena);
  }
  if (bfloat16 && HasTiles() && x.cols() > 0 && x.rows() > 1) {
    Scratch scratch(arena);
    const float* wide_bias = bias == nullptr ? nullptr : AsFloat32(*bias, scratch);
    const bool digits =
        weight.dtype == DType::kInt8 && x.rows() <= kMostDigitRows && x.cols() <= kMostDigitDepth;
    return (digits ? DigitProducts : TileProducts)(x, weight, wide_bias, out, arena);
  }
  const bool pairs = bfloat16 && weight.dtype != DType::kFloat8 && HasPairRows();
  if (pairs && x.rows() <= kMostPairRows) return Pairs(x, weight, bias, out, arena);
  if (x.cols() == 0 || x.rows() <= MostFewRows(weight.dtype)) return FewRows(x, weight, bias, out, arena);
  const bool float32 = x.dtype == DType::kFloat32 && out.dtype == DType::kFloat32;
  if (bfloat16 ? weight.dtype == DType::kBFloat16 : float32 && weight.dtype == DType::kFloat32) {
    return Direct(x, weight, bias, out, arena);
  }
  if (bfloat16) return Tiled<BFloat16>(x, weight, bias, out, arena);
  Tiled<float>(x, weight, bias, out, arena);
}

void Matmul::FewRows(const Tensor& x, const Tensor& weight, const Tensor* bias, const Tensor& out,
                     Arena& arena) {
  Scratch scratch(arena);
  const float* wide = AsFloat32(x, scratch);
  const float* wide_bias = bias == nullptr ? nullptr : AsFloat32(*bias, scratch);
  const int64_t rows = x.rows(), k = x.cols(), n = out.cols();
  float* sums = SumsOf(out, scratch);
  constexpr int64_t kBlock = 32;  // weight rows per turn
  WithWeight(weight.dtype, [&]<typename W>(W*) {
    ParallelFor((n + kBlock - 1) / kBlock, n * k, [&](int64_t block, int) {
      const int64_t first = block * kBlock;
      DotRows(wide, rows, k, weight.row<W>(first), k, std::min(kBlock, n - first), sums + first, n);
    });
  });
  Finish(sums, n, weight, wide_bias, out, 0, n);
}

void Matmul::Bytes(const Tensor& x, const Tensor& weight, const Tensor* bias, const Tensor& out,
                   Arena& arena) {
  Scratch scratch(arena);
  const float* wide_bias = bias == nullptr ? nullptr : AsFloat32(*bias, scratch);
  const int64_t rows = x.rows(), k = x.cols(), n = out.cols();
  float* sums = SumsOf(out, scratch);
  int8_t* const digits = scratch.Get<int8_t>(rows * kDigits * ByteDepth(k));
  const ByteRows factors = BytesOf(x.as<BFloat16>(), rows, k, digits, scratch.Get<RowScale>(rows));
  constexpr int64_t kBlock = 32;  // weight rows per turn
  ParallelFor((n + kBlock - 1) / kBlock, n * k, [&](int64_t block, int) {
    const int64_t first = block * kBlock;
    ByteProducts(factors, k, weight.row<int8_t>(first), k, std::min(kBlock, n - first), sums + first, n);
  });
  Finish(sums, n, weight, wide_bias, out, 0, n);
}

void Matmul::Pairs(const Tensor& x, const Tensor& weight, const Tensor* bias, const Tensor& out,
                   Arena& arena) {
  Scratch scratch(arena);
  const float* wide_bias = bias == nullptr ? nullptr : AsFloat32(*bias, scratch);
  const int64_t rows = x.rows(), k = x.cols(), n = out.cols();
  float* sums = SumsOf(out, scratch);
  constexpr int64_t kBlock = 24;  // weight rows per turn: a multiple of what PairRows does together
  // x meets each few rows of the weight anew. Where a core's second cache does not hold it beside them, parts
  // of it do, copied: rows whose distance is a multiple of a page would all fall into the same places of the
  // first cache; that of the copies is an odd number of lines.
  constexpr int64_t kNear = 256 << 10;  // elements
  const bool copied = rows * k > kNear;
  const int64_t part = copied ? std::max<int64_t>(kNear / rows / 64 * 64 - 32, 32) : std::max<int64_t>(k, 1);
  float* const more = copied ? scratch.Get<float>(rows * n) : nullptr;
  BFloat16* const copy = copied ? scratch.Get<BFloat16>(rows * part) : nullptr;
  for (int64_t begin = 0; begin < std::max<int64_t>(k, 1); begin += part) {
    const int64_t length = std::min(part, k - begin);
    if (copied) {
      ParallelFor(rows, rows * length, [&](int64_t r, int) {
        std::copy_n(x.row<BFloat16>(r) + begin, length, copy + r * length);
      });
    }
    const BFloat16* const from = copied ? copy : x.as<BFloat16>();
    float* const to = begin == 0 ? sums : more;
    WithWeight(weight.dtype, [&]<typename W>(W*) {
      if constexpr (std::is_same_v<W, BFloat16> || std::is_same_v<W, int8_t>) {
        ParallelFor((n + kBlock - 1) / kBlock, n * length, [&](int64_t block, int) {
          const int64_t first = block * kBlock;
          PairRows(from, rows, length, weight.row<W>(first) + begin, k, std::min(kBlock, n - first),
                   to + first, n);
        });
      }
    });
    if (begin > 0) {
      ParallelFor(rows, rows * n, [&](int64_t r, int) { AddRow(more + r * n, sums + r * n, n); });
    }
  }
  Finish(sums, n, weight, wide_bias, out, 0, n);
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

template <typename F>
void Matmul::Tiled(const Tensor& x, const Tensor& weight, const Tensor* bias, const Tensor& out,
                   Arena& arena) {
  constexpr bool kFloat = std::is_same_v<F, float>;
  Scratch scratch(arena);
  const float* wide = kFloat ? AsFloat32(x, scratch) : nullptr;
  const float* wide_bias = bias == nullptr ? nullptr : AsFloat32(*bias, scratch);
  const int64_t rows = x.rows(), k = x.cols(), n = out.cols(), most = std::min(kTile, n);
  const bool stored = weight.dtype == DType::kFloat32;  // as float32 is multiplied: nothing to widen
  F* tile = stored ? nullptr : scratch.Get<F>(most * k);
  float* sums = scratch.Get<float>(rows * most);
  for (int64_t first = 0; first < n; first += kTile) {
    const int64_t count = std::min(kTile, n - first);
    F* factors = stored ? weight.row<F>(first) : tile;
    WithWeight(weight.dtype, [&]<typename W>(W*) {
      if constexpr (sizeof(W) == 1 || (kFloat && std::is_same_v<W, BFloat16>)) {
        ParallelFor(count, count * k,
                    [&](int64_t r, int) { Widen(weight.row<W>(first + r), factors + r * k, k); });
      }
    });
    constexpr DType kType = kFloat ? DType::kFloat32 : DType::kBFloat16;
    // Not dnnl_sgemm, which for some hundred rows is half as fast on AVX-512.
    Direct(kFloat ? Matrix(kType, rows, k, const_cast<float*>(wide)) : x, Matrix(kType, count, k, factors),
           nullptr, Matrix(DType::kFloat32, rows, count, sums), arena);
    Finish(sums, count, weight, wide_bias, out, first, count);
  }
}

}  // namespace internvl
