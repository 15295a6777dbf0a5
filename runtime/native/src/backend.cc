#include "backend.h"

#include <cstddef>

namespace internvl {

void Backend::UploadRows(void* to, int64_t step, const void* host, int64_t row_bytes, int64_t rows) {
  for (int64_t r = 0; r < rows; ++r) {
    Upload(static_cast<std::byte*>(to) + r * step, static_cast<const std::byte*>(host) + r * row_bytes,
           static_cast<size_t>(row_bytes));
  }
}

}  // namespace internvl
