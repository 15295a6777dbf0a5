// Copies of whole rows: embedding, gathering, inserting.
#include <cstring>

#include "operations.h"
#include "parallel.h"

namespace internvl {

Napi::Value Embedding(const Call& call) {
  const Tensor table = call.Matrix(0, "table");
  const auto ids = call.Int32s(1, "ids");
  const int64_t start = call.Integer(2, "vocabStart", 0);
  const auto count = static_cast<int64_t>(ids.size());
  const Result out = call.Make(table.dtype, count, table.cols());
  const auto row_bytes = static_cast<size_t>(table.cols() * ElementBytes(table.dtype));
  for (int64_t i = 0; i < count; ++i) {
    const int64_t row = ids[static_cast<size_t>(i)] - start;
    uint8_t* to = out.tensor.as<uint8_t>() + static_cast<size_t>(i) * row_bytes;
    if (row >= 0 && row < table.rows()) {
      std::memcpy(to, table.as<uint8_t>() + static_cast<size_t>(row) * row_bytes, row_bytes);
    } else {
      std::memset(to, 0, row_bytes);
    }
  }
  return out.handle;
}

Napi::Value CopyRows(const Call& call) {
  const Tensor dst = call.Any(0, "dst");
  const int64_t dst_row = call.Integer(1, "dstRow", 0);
  const Tensor src = call.Any(2, "src");
  const int64_t src_row = call.Integer(3, "srcRow", 0), count = call.Integer(4, "count", 0);
  if (src.dtype != dst.dtype)
    call.FailType("src " + Describe(src) + " must have the dtype of dst " + Describe(dst));
  REQUIRE(call, src.cols() == dst.cols(),
          "src " + Describe(src) + " must have the width of dst " + Describe(dst));
  REQUIRE(call, dst_row + count <= dst.rows(),
          "rows [" + std::to_string(dst_row) + ", " + std::to_string(dst_row + count) + ") lie outside dst " +
              Describe(dst));
  REQUIRE(call, src_row + count <= src.rows(),
          "rows [" + std::to_string(src_row) + ", " + std::to_string(src_row + count) + ") lie outside src " +
              Describe(src));
  const int64_t row_bytes = dst.cols() * ElementBytes(dst.dtype);
  std::memmove(dst.as<uint8_t>() + dst_row * row_bytes, src.as<uint8_t>() + src_row * row_bytes,
               static_cast<size_t>(count * row_bytes));
  return call.env().Undefined();
}

Napi::Value GatherRows(const Call& call) {
  const Tensor x = call.Any(0, "x");
  const auto rows = call.Int32s(1, "rows");
  for (const int32_t row : rows) {
    if (row < 0 || row >= x.rows())
      call.FailRange("rows holds " + std::to_string(row) + ", outside x " + Describe(x));
  }
  const Result out = call.Make(x.dtype, static_cast<int64_t>(rows.size()), x.cols());
  const auto row_bytes = static_cast<size_t>(x.cols() * ElementBytes(x.dtype));
  for (size_t i = 0; i < rows.size(); ++i) {
    std::memcpy(out.tensor.as<uint8_t>() + i * row_bytes,
                x.as<uint8_t>() + static_cast<size_t>(rows[i]) * row_bytes, row_bytes);
  }
  return out.handle;
}

}  // namespace internvl
