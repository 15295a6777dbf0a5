// Whole rows by number, and the numbers of the next tokens.
#include <cstring>

#include "../operations.h"
#include "../token_draw.h"

namespace internvl {

Napi::Value Embedding(const Call& call) {
  const Tensor table = call.Matrix(0, "table"), ids = call.MatrixOf(1, "ids", DType::kInt32, 1, -1);
  const int64_t start = call.Integer(2, "vocabStart", 0);
  const Result out = call.Make(table.dtype, ids.elements(), table.cols());
  call.backend().Embedding(table, ids, start, out.tensor);
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
  call.backend().Move(dst.as<uint8_t>() + dst_row * row_bytes, src.as<uint8_t>() + src_row * row_bytes,
                      static_cast<size_t>(count * row_bytes));
  return call.env().Undefined();
}

Napi::Value GatherRows(const Call& call) {
  const Tensor x = call.Any(0, "x");
  const Indices rows = call.Values(1, "rows");
  for (const int32_t row : rows.values) {
    if (row < 0 || row >= x.rows())
      call.FailRange("rows holds " + std::to_string(row) + ", outside x " + Describe(x));
  }
  const Result out = call.Make(x.dtype, rows.size(), x.cols());
  call.backend().GatherRows(x, rows.tensor, out.tensor);
  return out.handle;
}

Napi::Value ResolveIds(const Call& call) {
  const Tensor ids = call.MatrixOf(0, "ids", DType::kInt32, 1, -1);
  const Tensor last = call.MatrixOf(1, "last", DType::kInt32, -1, 1);
  call.backend().ResolveIds(ids, last);
  return call.env().Undefined();
}

Napi::Value ChooseTokens(const Call& call) {
  const Tensor logits = call.MatrixOf(0, "logits", DType::kFloat32);
  const int64_t columns = call.Integer(1, "columns", 0);
  const Indices draws = call.Values(2, "draws");
  const int64_t rows = logits.shape[0];
  REQUIRE(call, columns <= logits.shape[1] && columns <= INT32_MAX,
          "columns " + std::to_string(columns) + " are more than logits " + Describe(logits) + " has");
  REQUIRE(call, draws.size() == kDrawWords * rows,
          "draws must have " + std::to_string(kDrawWords) + " elements for each of " + std::to_string(rows) +
              " rows, not " + std::to_string(draws.size()));
  for (int64_t row = 0; row < rows; ++row) {
    TokenDraw draw;
    std::memcpy(&draw, &draws.values[static_cast<size_t>(kDrawWords * row)], sizeof(draw));
    if (const char* problem = ProblemOf(draw)) {
      call.FailRange("draws, row " + std::to_string(row) + ": " + problem);
    }
  }
  const Result out = call.Make(DType::kInt32, rows, 1);
  call.backend().ChooseTokens(logits, columns, draws, out.tensor);
  return out.handle;
}

}  // namespace internvl
