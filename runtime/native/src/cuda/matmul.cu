#include <algorithm>

#include "matmul.h"
#include "quantize_rows.h"
#include "row_products.h"
#include "weight_tiles.h"

namespace internvl::cuda {
namespace {

/// Up to here products row by row, which read the weight once, beat cuBLASLt's.
constexpr int64_t kMostRows = 8;
/// Weight rows that are widened at a time: enough of them to keep a large device busy, and no more, since
/// what was widened last is still in its cache when it is multiplied.
constexpr int64_t kTile = 2048;

/// float32 sums of e4m3 that are kept at a time, in whole kSumsTile outputs.
constexpr int64_t kMostSums = int64_t{8} << 20;
constexpr int64_t kSumsTile = 256;

bool HasFloat8() {
  int device, major, minor;
  Check(cudaGetDevice(&device), "cudaGetDevice");
  Check(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device), "compute capability");
  Check(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device), "compute capability");
  return 10 * major + minor >= 89;
}

lt::Type TypeOf(DType dtype) { return dtype == DType::kFloat32 ? lt::Type::kFloat32 : lt::Type::kBFloat16; }

std::byte* Offset(const Tensor& tensor, int64_t elements) {
  return tensor.as<std::byte>() + elements * ElementBytes(tensor.dtype);
}

/// Values of the tensor as `dtype`: itself, or a widened copy.
const void* As(DType dtype, const Tensor& tensor, Scratch& scratch, cudaStream_t stream) {
  if (tensor.dtype == dtype) return tensor.data;
  void* copy = scratch.Get<std::byte>(tensor.elements() * ElementBytes(dtype));
  WidenValues(tensor.data, tensor.dtype, copy, dtype, tensor.elements(), stream);
  return copy;
}

}  // namespace

Matmul::Matmul(cudaStream_t stream, MemorySource& memory)
    : stream_(stream), has_float8_(HasFloat8()), products_(stream, memory) {}

void Matmul::Run(const Tensor& x, const Tensor& weight, const Tensor* bias, const Tensor& out, Arena& arena) {
  if (out.elements() == 0) return;
  if (x.rows() > 1 && x.rows() <= kMostTensorRows && HasTensorRowProducts(x, weight)) {
    return TensorRowProducts(x, weight, SumsOut::Of(weight, bias, out), stream_);
  }
  if (x.rows() > kMostTensorRows && has_float8_ && weight.dtype == DType::kFloat8 && HasQuantizeRows(x) &&
      Float8Rows(x, weight, bias, out, arena)) {
    return;
  }
  if (x.rows() > kMostRows && x.cols() > 0 && ManyRows(x, weight, bias, out, arena)) return;
  RowProducts(x, weight, SumsOut::Of(weight, bias, out), stream_);
}

/// One product with the scales of both factors inside; where cuBLASLt does not take them so, or there is a
/// bias, which it would add as bfloat16, products without, and the rest after each.
bool Matmul::Float8Rows(const Tensor& x, const Tensor& weight, const Tensor* bias, const Tensor& out,
                        Arena& arena) {
  Scratch scratch(arena);
  const int64_t rows = x.rows(), n = weight.rows(), k = x.cols();
  auto* const codes = scratch.Get<Float8>(rows * k);
  float* const scales = scratch.Get<float>(rows);
  QuantizeRows(x, codes, scales, stream_);
  LtProducts::Product product{.x = codes,
                              .weight = weight.data,
                              .bias = nullptr,
                              .out = out.data,
                              .out_stride = n,
                              .t = rows,
                              .n = n,
                              .k = k,
                              .factors = lt::Type::kFloat8,
                              .result = TypeOf(out.dtype),
                              .weight_scales = weight.scales(),
                              .x_scales = scales};
  if (bias == nullptr && products_.Run(product)) return true;

  product.weight_scales = product.x_scales = nullptr;
  product.result = lt::Type::kFloat32;
  SumsOut finish = SumsOut::Of(weight, bias, out);
  finish.row_scales = scales;
  const bool apart = out.dtype != DType::kFloat32;  // sums need a place of their own
  const int64_t most = apart ? std::min(n, std::max(kSumsTile, kMostSums / rows / kSumsTile * kSumsTile)) : n;
  float* const sums = apart ? scratch.Get<float>(rows * most) : out.as<float>();
  product.out = sums;
  product.out_stride = most;
  for (int64_t first = 0; first < n; first += most) {
    product.n = std::min(most, n - first);
    product.weight = weight.row<Float8>(first);
    if (!products_.Run(product)) return false;
    StoreSums(sums, most, rows, product.n, finish.From(first), stream_);
  }
  return true;
}

bool Matmul::ManyRows(const Tensor& x, const Tensor& weight, const Tensor* bias, const Tensor& out,
                      Arena& arena) {
  Scratch scratch(arena);
  const bool tensor_cores = x.dtype == DType::kBFloat16 && weight.dtype != DType::kFloat32;
  const DType factors = tensor_cores ? DType::kBFloat16 : DType::kFloat32;
  const int64_t rows = x.rows(), n = weight.rows(), k = x.cols();
  const bool stored = weight.dtype == factors;  // as it is multiplied: nothing to widen
  const int64_t most = stored ? n : std::min(kTile, n);

  // cuBLASLt rounds its sums, the bias included, where it has neither scales nor a bias finer than its
  // result.
  const bool rounds = !IsQuantized(weight.dtype) &&
                      (bias == nullptr || bias->dtype == DType::kBFloat16 || out.dtype == DType::kFloat32) &&
                      (tensor_cores || out.dtype == DType::kFloat32);
  const SumsOut finish = SumsOut::Of(weight, bias, out);
  const void* factor = As(factors, x, scratch, stream_);
  const void* wide_bias = rounds && bias != nullptr ? As(out.dtype, *bias, scratch, stream_) : nullptr;
  std::byte* tile = stored ? nullptr : scratch.Get<std::byte>(most * k * ElementBytes(factors));
  const bool apart = !rounds && out.dtype != DType::kFloat32;  // sums need a place of their own
  float* sums = apart ? scratch.Get<float>(rows * most) : nullptr;

  for (int64_t first = 0; first < n; first += most) {
    const int64_t count = std::min(most, n - first);
    const std::byte* from = Offset(weight, first * k);
    if (!stored) WidenValues(from, weight.dtype, tile, factors, count * k, stream_);
    const auto after = [first](const void* values, DType dtype) {
      return values == nullptr ? nullptr
                               : static_cast<const std::byte*>(values) + first * ElementBytes(dtype);
    };
    void* to = apart ? static_cast<void*>(sums) : Offset(out, first);
    const int64_t stride = apart ? count : n;
    if (!products_.Run({.x = factor,
                        .weight = stored ? from : tile,
                        .bias = after(wide_bias, out.dtype),
                        .out = to,
                        .out_stride = stride,
                        .t = rows,
                        .n = count,
                        .k = k,
                        .factors = TypeOf(factors),
                        .result = rounds ? TypeOf(out.dtype) : lt::Type::kFloat32})) {
      return false;
    }
    if (!rounds) StoreSums(static_cast<const float*>(to), stride, rows, count, finish.From(first), stream_);
  }
  return true;
}

}  // namespace internvl::cuda
