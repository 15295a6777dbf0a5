// Copies of whole rows by number.
#include <cstring>

#include "cpu_backend.h"
#include "parallel.h"

namespace internvl {

void CpuBackend::Embedding(const Tensor& table, const Tensor& ids, int64_t vocab_start, const Tensor& out) {
  const auto row_bytes = static_cast<size_t>(table.cols() * ElementBytes(table.dtype));
  for (int64_t i = 0; i < ids.elements(); ++i) {
    const int64_t row = ids.as<int32_t>()[i] - vocab_start;
    uint8_t* to = out.as<uint8_t>() + static_cast<size_t>(i) * row_bytes;
    if (row >= 0 && row < table.rows()) {
      std::memcpy(to, table.as<uint8_t>() + static_cast<size_t>(row) * row_bytes, row_bytes);
    } else {
      std::memset(to, 0, row_bytes);
    }
  }
}

void CpuBackend::GatherRows(const Tensor& x, const Tensor& rows, const Tensor& out) {
  const auto row_bytes = static_cast<size_t>(x.cols() * ElementBytes(x.dtype));
  for (int64_t i = 0; i < rows.elements(); ++i) {
    std::memcpy(out.as<uint8_t>() + static_cast<size_t>(i) * row_bytes,
                x.as<uint8_t>() + static_cast<size_t>(rows.as<int32_t>()[i]) * row_bytes, row_bytes);
  }
}

void CpuBackend::ResolveIds(const Tensor& ids, const Tensor& last) {
  for (int64_t i = 0; i < ids.elements(); ++i) {
    int32_t& id = ids.as<int32_t>()[i];
    if (id < 0 && -1 - int64_t{id} < last.rows()) id = last.as<int32_t>()[-1 - int64_t{id}];
  }
}

}  // namespace internvl
