#include "checkpoint.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <type_traits>

#include "cpu/parallel.h"
#include "cpu/quantized_rows.h"
#include "cpu/row_math.h"
#include "operations.h"

namespace internvl {

CheckpointFile::CheckpointFile(std::string path) : path_(std::move(path)) {
  const auto fail = [this](const char* what, int code) {
    throw std::runtime_error(std::string(what) + " '" + path_ + "': " + std::strerror(code));
  };
  descriptor_ = open(path_.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor_ < 0) fail("cannot open", errno);
  struct stat status {};
  if (fstat(descriptor_, &status) != 0 || !S_ISREG(status.st_mode)) {
    close(descriptor_);
    fail("not a regular file", EINVAL);
  }
  bytes_ = status.st_size;
  posix_fadvise(descriptor_, 0, 0, POSIX_FADV_SEQUENTIAL);
}

CheckpointFile::~CheckpointFile() { close(descriptor_); }

int CheckpointFile::Read(int64_t offset, void* to, int64_t count) const {
  auto* at = static_cast<uint8_t*>(to);
  while (count > 0) {
    const ssize_t done = pread(descriptor_, at, static_cast<size_t>(count), offset);
    if (done < 0 && errno == EINTR) continue;
    if (done < 0) return errno;
    if (done == 0) return kEnded;
    at += done;
    offset += done;
    count -= done;
  }
  return 0;
}

int64_t CheckpointFiles::Open(std::string path) {
  files_.emplace(next_id_, std::make_unique<CheckpointFile>(std::move(path)));
  return next_id_++;
}

const CheckpointFile* CheckpointFiles::Find(int64_t id) const {
  const auto found = files_.find(id);
  return found == files_.end() ? nullptr : found->second.get();
}

bool CheckpointFiles::Close(int64_t id) {
  const bool closed = files_.erase(id) > 0;
  if (files_.empty()) pieces_.reset();
  return closed;
}

UploadPieces& CheckpointFiles::Pieces(Backend& backend) {
  if (!pieces_) pieces_ = backend.MakeUploadPieces();
  return *pieces_;
}

namespace {

enum class SourceType { kFloat32, kBFloat16, kFloat16 };

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

/// `from` is aligned to its elements.
void CopyRow(const uint8_t* from, SourceType type, float* to, int64_t n) {
  if (type == SourceType::kFloat32) {
    std::memcpy(to, from, static_cast<size_t>(n) * 4);
  } else if (type == SourceType::kBFloat16) {
    Widen(reinterpret_cast<const BFloat16*>(from), to, n);
  } else {
    for (int64_t i = 0; i < n; ++i) to[i] = HalfToFloat(reinterpret_cast<const uint16_t*>(from)[i]);
  }
}

void CopyRow(const uint8_t* from, SourceType type, BFloat16* to, int64_t n) {
  if (type == SourceType::kBFloat16) {
    std::memcpy(to, from, static_cast<size_t>(n) * 2);
  } else if (type == SourceType::kFloat32) {
    Narrow(reinterpret_cast<const float*>(from), to, n);
  } else {
    constexpr int64_t kPiece = 256;
    float piece[kPiece];
    for (int64_t i = 0; i < n; i += kPiece) {
      const int64_t count = std::min(kPiece, n - i);
      CopyRow(from + 2 * i, type, piece, count);
      Narrow(piece, to + i, count);
    }
  }
}

/// What one read takes at most: large enough that a call costs nothing beside it, small enough that the
/// threads share a tensor evenly.
constexpr int64_t kPieceBytes = int64_t{1} << 20;
/// Of what cannot be read to where it stays: as much as stays in a core's cache.
constexpr int64_t kStageBytes = int64_t{128} << 10;
/// Bytes between two rows that are read along: about what is copied in the time that another read takes.
constexpr int64_t kGapBytes = int64_t{12} << 10;

/// `count` runs of `length` elements each, `source_step` bytes of the file and `destination_step` elements
/// apart.
struct Runs {
  int64_t count, length;
  int64_t source, source_step;
  int64_t destination, destination_step;
};

/// What lies between two runs is read as fast as it is passed over.
bool IsNear(const Runs& runs, int64_t element) {
  return runs.source_step - runs.length * element <= kGapBytes;
}

int64_t ElementBytes(SourceType type) { return type == SourceType::kFloat32 ? 4 : 2; }

template <typename T>
constexpr SourceType kSameType = std::is_same_v<T, float> ? SourceType::kFloat32 : SourceType::kBFloat16;

/// One buffer of `bytes` for each thread.
class Stages {
 public:
  explicit Stages(int64_t bytes)
      : bytes_(bytes),
        memory_(std::make_unique_for_overwrite<uint8_t[]>(static_cast<size_t>(MaxThreads() * bytes))) {}
  uint8_t* of(int thread) const { return memory_.get() + thread * bytes_; }

 private:
  int64_t bytes_;
  std::unique_ptr<uint8_t[]> memory_;
};

/// Runs of the type that they keep, straight to where they stay.
template <typename T>
int ReadInPlace(const CheckpointFile& file, const Runs& runs, T* to) {
  constexpr int64_t kElement = sizeof(T);
  const int64_t piece = std::min(runs.length, kPieceBytes / kElement);
  const int64_t pieces = (runs.length + piece - 1) / piece;  // of each run
  std::atomic<int> failure = 0;
  ParallelFor(runs.count * pieces, runs.count * runs.length, [&](int64_t i, int) {
    if (failure.load(std::memory_order_relaxed) != 0) return;
    const int64_t run = i / pieces, begin = i % pieces * piece;
    const int result = file.Read(runs.source + run * runs.source_step + begin * kElement,
                                 to + runs.destination + run * runs.destination_step + begin,
                                 std::min(piece, runs.length - begin) * kElement);
    if (result != 0) failure.store(result, std::memory_order_relaxed);
  });
  return failure.load();
}

/// Groups of runs, what lies between them included, by way of a buffer: keep(first byte, run, thread).
template <typename Keep>
int ReadGroups(const CheckpointFile& file, const Runs& runs, SourceType type, Keep&& keep) {
  const int64_t run_bytes = runs.length * ElementBytes(type);
  const int64_t group = std::max<int64_t>(1, std::min(runs.count, kStageBytes / runs.source_step));
  const Stages stages((group - 1) * runs.source_step + run_bytes);
  std::atomic<int> failure = 0;
  ParallelFor((runs.count + group - 1) / group, runs.count * runs.length, [&](int64_t i, int thread) {
    if (failure.load(std::memory_order_relaxed) != 0) return;
    const int64_t first = i * group, count = std::min(group, runs.count - first);
    uint8_t* const stage = stages.of(thread);
    const int result =
        file.Read(runs.source + first * runs.source_step, stage, (count - 1) * runs.source_step + run_bytes);
    if (result != 0) failure.store(result, std::memory_order_relaxed);
    for (int64_t r = 0; r < count && result == 0; ++r) {
      keep(stage + r * runs.source_step, first + r, thread);
    }
  });
  return failure.load();
}

template <typename T>
int ReadStaged(const CheckpointFile& file, const Runs& runs, SourceType type, T* to) {
  return ReadGroups(file, runs, type, [&](const uint8_t* from, int64_t run, int) {
    CopyRow(from, type, to + runs.destination + run * runs.destination_step, runs.length);
  });
}

/// Whole rows of a matrix of Q, int8 or float8, from `first_row` on.
template <typename Q>
int ReadQuantized(const CheckpointFile& file, const Runs& runs, SourceType type, const Tensor& to,
                  int64_t first_row) {
  const int64_t bytes = runs.length * static_cast<int64_t>(sizeof(float));
  const Stages rows(bytes);
  return ReadGroups(file, runs, type, [&](const uint8_t* from, int64_t run, int thread) {
    float* const row = reinterpret_cast<float*>(rows.of(thread));
    CopyRow(from, type, row, runs.length);
    to.scales()[first_row + run] = QuantizeRow(row, to.row<Q>(first_row + run), runs.length);
  });
}

/// Reads the runs into `to`, the threads side by side, each a part of its own. Returns what
/// CheckpointFile::Read returns.
template <typename T>
int ReadRuns(const CheckpointFile& file, Runs runs, SourceType type, T* to) {
  const int64_t element = ElementBytes(type);
  const bool together = runs.source_step == runs.length * element && runs.destination_step == runs.length;
  const bool near = runs.count > 1 && IsNear(runs, element);
  if (type == kSameType<T> && together) {
    runs.length *= runs.count;
    runs.count = 1;
  }
  if (type == kSameType<T> && (together || !near)) return ReadInPlace(file, runs, to);
  if (together) {  // one long run: cut to what a buffer takes
    const int64_t total = runs.length * runs.count, cut = std::min(total, kStageBytes / element);
    const Runs pieces{total / cut, cut, runs.source, cut * element, runs.destination, cut};
    const int failure = ReadStaged(file, pieces, type, to);
    const int64_t done = pieces.count * cut;
    if (failure != 0 || done == total) return failure;
    runs = {1, total - done, runs.source + done * element, (total - done) * element, runs.destination + done,
            0};
  }
  return ReadStaged(file, runs, type, to);
}

int Read(const CheckpointFile& file, const Runs& runs, SourceType type, const Tensor& to, int64_t first_row) {
  if (to.dtype == DType::kInt8) return ReadQuantized<int8_t>(file, runs, type, to, first_row);
  if (to.dtype == DType::kFloat8) return ReadQuantized<Float8>(file, runs, type, to, first_row);
  int failure = 0;
  WithElement(to.dtype, [&]<typename T>(T*) { failure = ReadRuns(file, runs, type, to.as<T>()); });
  return failure;
}

bool IsKept(SourceType type, DType to) {
  return (type == SourceType::kFloat32 && to == DType::kFloat32) ||
         (type == SourceType::kBFloat16 && to == DType::kBFloat16);
}

/// By way of memory that the device copies from, some rows at a time: the next ones are read while these are
/// copied. What has to be rounded is rounded on its way there, by the threads that read it: so the rows are
/// the CPU's to the bit, and int8 takes half the link.
int ReadToDevice(const Call& call, const CheckpointFile& file, const Runs& runs, SourceType type,
                 const Tensor& to, int64_t first_row, int64_t first_col) {
  UploadPieces& pieces = call.environment.files->Pieces(call.backend());
  const int64_t element = ElementBytes(to.dtype), row_bytes = runs.length * element;
  // Nobody looks at these on the way: the copy leaves out what was read between them.
  const bool whole = IsKept(type, to.dtype) && IsNear(runs, element);
  const int64_t step = whole ? runs.source_step : row_bytes;
  constexpr auto kRoom = static_cast<int64_t>(UploadPieces::kBytes - kAlignment);
  const int64_t most = std::max<int64_t>(1, kRoom / (step + static_cast<int64_t>(sizeof(float))));
  for (int64_t done = 0; done < runs.count; done += most) {
    const int64_t count = std::min(most, runs.count - done);
    Tensor part{.dtype = to.dtype, .dims = 2, .shape = {count, runs.length}};
    const int64_t bytes = whole ? (count - 1) * step + row_bytes : part.bytes();
    part.data = pieces.Next(static_cast<size_t>(bytes));
    Runs rows{.count = count,
              .length = runs.length,
              .source = runs.source + done * runs.source_step,
              .source_step = runs.source_step,
              .destination = 0,
              .destination_step = runs.length};
    if (whole) {
      rows.count = 1;
      rows.length = bytes;
    }
    const int failure = whole ? ReadInPlace(file, rows, part.as<uint8_t>()) : Read(file, rows, type, part, 0);
    if (failure != 0) return failure;
    const int64_t row = first_row + done;
    pieces.Upload(to.as<uint8_t>() + (row * to.cols() + first_col) * element, to.cols() * element, part.data,
                  step, row_bytes, count);
    if (IsQuantized(to.dtype)) {
      const int64_t scales = count * static_cast<int64_t>(sizeof(float));
      pieces.Upload(to.scales() + row, scales, part.scales(), scales, scales, 1);
    }
  }
  return 0;
}

const CheckpointFile& File(const Call& call, int index) {
  const CheckpointFile* file = call.environment.files->Find(call.Integer(index, "file", 0));
  if (file == nullptr) call.FailRange("file is not open");
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

Napi::Value OpenFile(const Call& call) {
  return Napi::Number::New(call.env(),
                           static_cast<double>(call.environment.files->Open(call.Text(0, "path"))));
}

Napi::Value CloseFile(const Call& call) {
  if (!call.environment.files->Close(call.Integer(0, "file", 0))) call.FailRange("file is not open");
  return call.env().Undefined();
}

Napi::Value FileBytes(const Call& call) {
  return Napi::Number::New(call.env(), static_cast<double>(File(call, 0).bytes()));
}

Napi::Value CopyFromFile(const Call& call) {
  const Tensor dst = call.Any(0, "dst");
  const bool quantized = IsQuantized(dst.dtype);
  if (dst.dims > 2 || (dst.dtype != DType::kFloat32 && dst.dtype != DType::kBFloat16 && !quantized)) {
    call.FailType("dst must be float32, bfloat16, int8 or float8 with one or two dimensions, not " +
                  Describe(dst));
  }
  const int64_t dst_row = call.Integer(1, "dstRow", 0), dst_col = call.Integer(2, "dstCol", 0);
  const CheckpointFile& file = File(call, 3);
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

  const int64_t element = ElementBytes(type);
  // rows and columns are below 2^31, so the product stays below 2^62.
  const int64_t last_element = (src_row + rows - 1) * stride + src_col + cols;
  REQUIRE(call, last_element <= (file.bytes() - byte_offset) / element && byte_offset <= file.bytes(),
          "'" + file.path() + "' has " + std::to_string(file.bytes()) + " bytes; the matrix at offset " +
              std::to_string(byte_offset) + " needs " + std::to_string(last_element) + " elements of " +
              std::to_string(element) + " bytes from there");

  const Runs runs{.count = rows,
                  .length = cols,
                  .source = byte_offset + (src_row * stride + src_col) * element,
                  .source_step = stride * element,
                  .destination = dst_row * dst.cols() + dst_col,
                  .destination_step = dst.cols()};
  const int failure = call.backend().on_host() ? Read(file, runs, type, dst, dst_row)
                                               : ReadToDevice(call, file, runs, type, dst, dst_row, dst_col);
  if (failure == CheckpointFile::kEnded) {
    throw std::runtime_error("'" + file.path() + "' has become shorter than the " +
                             std::to_string(file.bytes()) + " bytes that it had when it was opened");
  }
  if (failure != 0) {
    throw std::runtime_error("cannot read '" + file.path() + "': " + std::strerror(failure));
  }
  return call.env().Undefined();
}

}  // namespace internvl
