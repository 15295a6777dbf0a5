#include "checkpoint.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <stdexcept>

#include "operations.h"
#include "parallel.h"
#include "quantized_rows.h"
#include "row_math.h"

namespace internvl {

MappedFile::MappedFile(std::string path) : path_(std::move(path)) {
  const auto fail = [this](const char* what, int code) {
    throw std::runtime_error(std::string(what) + " '" + path_ + "': " + std::strerror(code));
  };
  const int fd = open(path_.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) fail("cannot open", errno);
  struct stat status {};
  if (fstat(fd, &status) != 0 || !S_ISREG(status.st_mode)) {
    close(fd);
    fail("not a regular file", EINVAL);
  }
  bytes_ = status.st_size;
  if (bytes_ > 0) {
    void* mapped = mmap(nullptr, static_cast<size_t>(bytes_), PROT_READ, MAP_SHARED, fd, 0);
    const int code = errno;
    if (mapped == MAP_FAILED) {
      close(fd);
      fail("cannot map", code);
    }
    data_ = static_cast<const uint8_t*>(mapped);
    madvise(mapped, static_cast<size_t>(bytes_), MADV_SEQUENTIAL);
  }
  close(fd);  // the mapping stays
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) munmap(const_cast<uint8_t*>(data_), static_cast<size_t>(bytes_));
}

int64_t MappedFiles::Map(std::string path) {
  files_.emplace(next_id_, std::make_unique<MappedFile>(std::move(path)));
  return next_id_++;
}

const MappedFile* MappedFiles::Find(int64_t id) const {
  const auto found = files_.find(id);
  return found == files_.end() ? nullptr : found->second.get();
}

namespace {

enum class SourceType { kFloat32, kBFloat16, kFloat16 };

// The elements of a checkpoint start at any byte, hence memcpy and no pointers to wider types.
uint16_t Load16(const uint8_t* from) {
  uint16_t bits;
  std::memcpy(&bits, from, sizeof(bits));
  return bits;
}

float HalfToFloat(uint16_t half) {
  const int exponent = (half >> 10) & 31, fraction = half & 1023;
  float magnitude;
  if (exponent == 31) {
    magnitude = fraction == 0 ? INFINITY : NAN;
  } else if (exponent == 0) {
    magnitude = std::ldexp(static_cast<float>(fraction), -24);
  } else {
    magnitude = std::ldexp(static_cast<float>(fraction + 1024), exponent - 25);
  }
  return (half & 0x8000) != 0 ? -magnitude : magnitude;
}

void CopyRow(const uint8_t* from, SourceType type, float* to, int64_t n) {
  if (type == SourceType::kFloat32) {
    std::memcpy(to, from, static_cast<size_t>(n) * 4);
    return;
  }
  for (int64_t i = 0; i < n; ++i) {
    const uint16_t bits = Load16(from + 2 * i);
    to[i] = type == SourceType::kBFloat16 ? ToFloat(BFloat16{bits}) : HalfToFloat(bits);
  }
}

/// `piece`: n floats of working memory.
float CopyRow(const uint8_t* from, SourceType type, int8_t* to, int64_t n, float* piece) {
  CopyRow(from, type, piece, n);
  return QuantizeRow(piece, to, n);
}

void CopyRow(const uint8_t* from, SourceType type, BFloat16* to, int64_t n) {
  if (type == SourceType::kBFloat16) {
    std::memcpy(to, from, static_cast<size_t>(n) * 2);
    return;
  }
  constexpr int64_t kPiece = 256;
  float piece[kPiece];
  const int64_t element = type == SourceType::kFloat32 ? 4 : 2;
  for (int64_t i = 0; i < n; i += kPiece) {
    const int64_t count = std::min(kPiece, n - i);
    CopyRow(from + i * element, type, piece, count);
    Narrow(piece, to + i, count);
  }
}

const MappedFile& File(const Call& call, int index) {
  const MappedFile* file = call.environment.files->Find(call.Integer(index, "file", 0));
  if (file == nullptr) call.FailRange("file is not mapped");
  return *file;
}

SourceType Source(const Call& call, int index) {
  const std::string name = call.Text(index, "srcDtype");
  if (name == "float32") return SourceType::kFloat32;
  if (name == "bfloat16") return SourceType::kBFloat16;
  if (name == "float16") return SourceType::kFloat16;
  call.FailType("srcDtype must be float32, bfloat16 or float16, not '" + name + "'");
}

}  // namespace

Napi::Value MapFile(const Call& call) {
  return Napi::Number::New(call.env(),
                           static_cast<double>(call.environment.files->Map(call.Text(0, "path"))));
}

Napi::Value UnmapFile(const Call& call) {
  if (!call.environment.files->Unmap(call.Integer(0, "file", 0))) call.FailRange("file is not mapped");
  return call.env().Undefined();
}

Napi::Value MappedBytes(const Call& call) {
  return Napi::Number::New(call.env(), static_cast<double>(File(call, 0).bytes()));
}

Napi::Value CopyFromFile(const Call& call) {
  const Tensor dst = call.Any(0, "dst");
  const bool quantized = dst.dtype == DType::kInt8;
  if (dst.dims > 2 || (dst.dtype != DType::kFloat32 && dst.dtype != DType::kBFloat16 && !quantized)) {
    call.FailType("dst must be float32, bfloat16 or int8 with one or two dimensions, not " + Describe(dst));
  }
  const int64_t dst_row = call.Integer(1, "dstRow", 0), dst_col = call.Integer(2, "dstCol", 0);
  const MappedFile& file = File(call, 3);
  const int64_t byte_offset = call.Integer(4, "byteOffset", 0);
  const SourceType type = Source(call, 5);
  const int64_t stride = call.Integer(6, "srcStride", 0, int64_t{1} << 30);
  const int64_t src_row = call.Integer(7, "srcRow", 0, int64_t{1} << 30);
  const int64_t src_col = call.Integer(8, "srcCol", 0, int64_t{1} << 30);
  const int64_t rows = call.Integer(9, "rows", 0, int64_t{1} << 30),
                cols = call.Integer(10, "cols", 0, int64_t{1} << 30);
  REQUIRE(call, dst_row + rows <= dst.rows() && dst_col + cols <= dst.cols(),
          "the rectangle of " + std::to_string(rows) + " x " + std::to_string(cols) + " at (" +
              std::to_string(dst_row) + ", " + std::to_string(dst_col) + ") lies outside dst " +
              Describe(dst));
  REQUIRE(call, src_col + cols <= stride,
          "columns [" + std::to_string(src_col) + ", " + std::to_string(src_col + cols) +
              ") lie outside srcStride " + std::to_string(stride));
  // The scale of a row is that of all its elements.
  REQUIRE(call, !quantized || (dst_col == 0 && cols == dst.cols()),
          "dst " + Describe(dst) + " takes whole rows only, not " + std::to_string(cols) + " columns from " +
              std::to_string(dst_col));
  if (rows == 0 || cols == 0) return call.env().Undefined();

  const int64_t element = type == SourceType::kFloat32 ? 4 : 2;
  // rows and columns are below 2^31, so the product stays below 2^62.
  const int64_t last_element = (src_row + rows - 1) * stride + src_col + cols;
  REQUIRE(call, last_element <= (file.bytes() - byte_offset) / element && byte_offset <= file.bytes(),
          "'" + file.path() + "' has " + std::to_string(file.bytes()) + " bytes; the matrix at offset " +
              std::to_string(byte_offset) + " needs " + std::to_string(last_element) + " elements of " +
              std::to_string(element) + " bytes from there");

  const uint8_t* source = file.data() + byte_offset + (src_row * stride + src_col) * element;
  if (quantized) {
    Scratch scratch(call.environment.tensors.arena());
    float* pieces = scratch.Get<float>(MaxThreads() * cols);
    ParallelFor(rows, rows * cols, [&](int64_t r, int thread) {
      dst.scales()[dst_row + r] = CopyRow(source + r * stride * element, type, dst.row<int8_t>(dst_row + r),
                                          cols, pieces + thread * cols);
    });
    return call.env().Undefined();
  }
  WithElement(dst.dtype, [&]<typename T>(T*) {
    ParallelFor(rows, rows * cols, [&](int64_t r, int) {
      CopyRow(source + r * stride * element, type, dst.row<T>(dst_row + r) + dst_col, cols);
    });
  });
  return call.env().Undefined();
}

}  // namespace internvl
