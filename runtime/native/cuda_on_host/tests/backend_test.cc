// The CUDA backend's memory, copies, recordings and errors: what the tests of the operations do not see.
#include "../../src/backend.h"

#include <cstring>
#include <memory>
#include <vector>

#include "../../src/open_cuda.h"
#include "allocations.h"
#include "cuda_runtime.h"
#include "device.h"
#include "expect.h"

namespace {

using namespace internvl;
using cuda_on_host::Mend;

/// An environment variable while it lives.
class With {
 public:
  With(const char* name, const std::string& value) : name_(name) { setenv(name, value.c_str(), 1); }
  ~With() { unsetenv(name_); }

 private:
  const char* name_;
};

/// The message of what f throws, or "".
template <typename F>
std::string Thrown(F&& f) {
  try {
    f();
    return "";
  } catch (const std::exception& error) {
    return error.what();
  }
}

bool Has(const std::string& text, const char* part) { return text.find(part) != std::string::npos; }

std::vector<uint8_t> Bytes(size_t count, unsigned seed) {
  std::vector<uint8_t> bytes(count);
  for (size_t i = 0; i < count; ++i)
    bytes[i] = static_cast<uint8_t>(((i + seed) * 0x9e3779b97f4a7c15u) >> 56);
  return bytes;
}

std::vector<uint8_t> Downloaded(Backend& backend, const void* from, size_t bytes) {
  std::vector<uint8_t> host(bytes, 0xee);
  backend.Download(host.data(), from, bytes);
  return host;
}

void OpensDevices() {
  Mend();
  {
    const With none("CUDA_ON_HOST_DRIVER", "0");
    Expect(Has(Thrown([] { OpenCuda(0); }), "no NVIDIA driver: install one"), "no driver");
  }
  {
    const With old("CUDA_ON_HOST_DRIVER", "12020");
    Expect(Has(Thrown([] { OpenCuda(0); }), "for CUDA 12.2, this build needs one for CUDA 13.0"),
           "an old driver");
  }
  {
    const With none("CUDA_ON_HOST_DEVICES", "0");
    Expect(Has(Thrown([] { OpenCuda(0); }), "this machine has none"), "no device");
  }
  Expect(Has(Thrown([] { OpenCuda(1); }), "no CUDA device 1: this process sees 1, from 0 on"),
         "no such device");
  Expect(Has(Thrown([] { OpenCuda(-1); }), "no CUDA device -1"), "no device of that number");
  {
    const With old("CUDA_ON_HOST_CAPABILITY", "75");
    Expect(Has(Thrown([] { OpenCuda(0); }), "has compute capability 7.5; 8.0 or later is needed"),
           "an old device");
  }
  Expect(cudaGetLastError() == cudaSuccess, "no error is left behind");
  const DeviceInfo info = OpenCuda(0)->Info();
  Expect(info.kind == "cuda" && info.capability == "9.0" && info.total_bytes > 0,
         "what there is of a device");
  Expect(cuda_on_host::LiveAllocations() == 0, "a closed device keeps no memory");
}

void GivesMemory() {
  const auto backend = OpenCuda(0);
  for (const size_t bytes : {size_t{1}, size_t{300}, size_t{1} << 20}) {
    std::byte* data = backend->memory().Take(bytes);
    Expect(reinterpret_cast<uintptr_t>(data) % 256 == 0, "aligned memory");
    Expect(Downloaded(*backend, data, bytes) == std::vector<uint8_t>(bytes, 0), "zeroed memory");
    backend->memory().Give(data, bytes);
  }
  const std::string limit = std::to_string(cuda_on_host::MemoryOfDevice().used + 1000000);
  const With little("CUDA_ON_HOST_MEMORY", limit);
  const std::string message = Thrown([&] { backend->memory().Take(2000000); });
  Expect(message == "out of device memory: asked for 2000000 bytes, 1000000 of " + limit + " are free",
         message);
  Expect(cudaGetLastError() == cudaSuccess, "running out leaves no error");
  std::byte* data = backend->memory().Take(1000);
  backend->memory().Give(data, 1000);
}

void Uploads() {
  const auto backend = OpenCuda(0);
  constexpr size_t kBytes = size_t{40} << 20;  // more than the ring holds
  std::byte* data = backend->memory().Take(kBytes);
  const auto expected = Bytes(kBytes, 1);
  {
    auto host = expected;
    backend->Upload(data, host.data(), kBytes);
    std::memset(host.data(), 0x77, kBytes);
  }
  Expect(Downloaded(*backend, data, kBytes) == expected, "a large upload, whose bytes change afterwards");

  // Small ones of many sizes, several times around the ring.
  size_t at = 0;
  for (size_t size = 1; at + size <= kBytes; at += size, size = size * 7 % 99991 + 1) {
    auto host = std::vector<uint8_t>(expected.begin() + static_cast<ptrdiff_t>(kBytes - at - size),
                                     expected.begin() + static_cast<ptrdiff_t>(kBytes - at));
    backend->Upload(data + at, host.data(), size);
    std::memset(host.data(), 0x77, size);
  }
  const auto result = Downloaded(*backend, data, at);
  bool same = true;
  at = 0;
  for (size_t size = 1; at + size <= kBytes; at += size, size = size * 7 % 99991 + 1)
    same &= std::memcmp(result.data() + at, expected.data() + kBytes - at - size, size) == 0;
  Expect(same, "many small uploads");

  struct Rows {
    int64_t row, step, count;
  };
  for (const auto [row, step, count] : {Rows{6, 10, 1000}, Rows{4096, 4096, 50}, Rows{70000, 70016, 100},
                                        Rows{3 << 20, (3 << 20) + 64, 5}, Rows{5, 9, 0}, Rows{0, 8, 4}}) {
    const auto span = static_cast<size_t>(step * count);
    backend->Zero(data, span);
    backend->UploadRows(data, step, expected.data(), row, count);
    const auto spread = Downloaded(*backend, data, span);
    bool right = true;
    for (int64_t r = 0; r < count; ++r) {
      right &=
          std::memcmp(spread.data() + r * step, expected.data() + r * row, static_cast<size_t>(row)) == 0;
      for (int64_t i = row; i < step; ++i) right &= spread[static_cast<size_t>(r * step + i)] == 0;
    }
    Expect(right, "rows of " + std::to_string(row) + " bytes");
  }
  backend->memory().Give(data, kBytes);
}

/// Copies run late here: a piece that is filled again too early shows.
void UploadsPieces() {
  const auto backend = OpenCuda(0);
  constexpr int64_t kRows = 37, kRow = 1000, kFromStep = 1100, kToStep = 1234, kPieces = 11;
  constexpr auto kSpan = static_cast<size_t>(kRows * kToStep);
  std::byte* data = backend->memory().Take(kSpan * kPieces);
  {
    const auto pieces = backend->MakeUploadPieces();
    for (int64_t p = 0; p < kPieces; ++p) {
      // The last ones are larger than pieces are by themselves.
      std::byte* piece = pieces->Next(p < 8 ? 1 : UploadPieces::kBytes + (size_t{1} << static_cast<int>(p)));
      const auto bytes = Bytes(kRows * kFromStep, static_cast<unsigned>(p));
      std::memcpy(piece, bytes.data(), bytes.size());
      std::byte* to = data + static_cast<size_t>(p) * kSpan;
      // A piece may go to several places.
      pieces->Upload(to, kToStep, piece, kFromStep, kRow, kRows - 1);
      pieces->Upload(to + (kRows - 1) * kToStep, kRow, piece + (kRows - 1) * kFromStep, kRow, kRow, 1);
    }
  }
  for (int64_t p = 0; p < kPieces; ++p) {
    const auto expected = Bytes(kRows * kFromStep, static_cast<unsigned>(p));
    const auto found = Downloaded(*backend, data + static_cast<size_t>(p) * kSpan, kSpan);
    bool right = true;
    for (int64_t r = 0; r < kRows; ++r) {
      right &= std::memcmp(found.data() + r * kToStep, expected.data() + r * kFromStep, kRow) == 0;
      for (int64_t i = kRow; i < kToStep; ++i) right &= found[static_cast<size_t>(r * kToStep + i)] == 0;
    }
    Expect(right, "piece " + std::to_string(p));
  }
  backend->memory().Give(data, kSpan * kPieces);
}

void Moves() {
  const auto backend = OpenCuda(0);
  const auto expected = Bytes(5000, 2);
  std::byte* data = backend->memory().Take(5000);
  for (const ptrdiff_t to : {0, 1, 700, 1500, 3000}) {
    for (const ptrdiff_t from : {0, 1, 700, 1500, 3000}) {
      backend->Upload(data, expected.data(), 5000);
      backend->Move(data + to, data + from, 1500);
      auto moved = expected;
      std::memmove(moved.data() + to, moved.data() + from, 1500);
      Expect(Downloaded(*backend, data, 5000) == moved, "a move within a range");
    }
  }
  backend->Move(data, data + 1, 0);
  backend->Zero(data + 10, 20);
  backend->Zero(data, 0);
  Expect(Downloaded(*backend, data + 10, 20) == std::vector<uint8_t>(20, 0), "zeros");
  Expect(Downloaded(*backend, data, 0).empty(), "a download of nothing");
  backend->memory().Give(data, 5000);
}

void DownloadsLater() {
  const auto backend = OpenCuda(0);
  const auto first = Bytes(100000, 3), second = Bytes(100000, 4);
  std::byte* data = backend->memory().Take(100000);
  for (const size_t bytes : {size_t{0}, size_t{4}, size_t{100000}, size_t{9}}) {
    backend->Upload(data, first.data(), 100000);
    const auto one = backend->StartDownload(data, bytes);
    backend->Upload(data, second.data(), 100000);
    const auto two = backend->StartDownload(data, bytes);
    backend->StartDownload(data, bytes);  // nobody waits for this one
    backend->Zero(data, 100000);
    Expect(std::memcmp(one->Wait(), first.data(), bytes) == 0, "what was there when it began");
    Expect(std::memcmp(two->Wait(), second.data(), bytes) == 0, "several under way");
    Expect(std::memcmp(one->Wait(), first.data(), bytes) == 0, "still there");
  }
  backend->memory().Give(data, 100000);
}

Tensor Matrix(DType dtype, int64_t rows, int64_t cols, void* data) {
  return {.dtype = dtype, .dims = 2, .shape = {rows, cols}, .data = data};
}

void Records() {
  const auto backend = OpenCuda(0);
  auto* memory = reinterpret_cast<float*>(backend->memory().Take(4096));
  const Tensor x = Matrix(DType::kFloat32, 2, 64, memory), y = Matrix(DType::kFloat32, 2, 64, memory + 256);
  std::vector<float> ones(128, 1.0f), values(128, 5.0f);
  backend->Upload(x.data, ones.data(), 512);

  const auto arena = backend->arena().position();
  backend->BeginRecording();
  backend->Upload(y.data, values.data(), 512);  // a constant of the recording
  values.assign(128, 9.0f);
  backend->AddScaled(x, y, nullptr);
  // Working memory that the arena has to ask the device for.
  backend->arena().Allocate(size_t{40} << 20);
  const auto detour = backend->arena().Allocate(512);
  backend->Move(detour, x.data, 512);
  backend->AddScaled(x, Matrix(DType::kFloat32, 2, 64, detour), nullptr);
  auto work = backend->EndRecording();
  backend->arena().Rewind(arena);

  const auto first = [&] {
    float value;
    backend->Download(&value, x.data, sizeof(value));
    return value;
  };
  Expect(first() == 1, "recorded work is not done");
  work->Launch();
  Expect(first() == 12, "it is done when launched: (1 + 5) * 2");
  backend->Upload(x.data, ones.data(), 512);
  work->Launch();
  work->Launch();
  Expect(first() == 34, "and again");
  work->Launch();
  work.reset();  // while it may still run
  Expect(first() == 78, "a launch survives its recording");

  backend->BeginRecording();
  Expect(Has(Thrown([&] { first(); }), "not permitted when stream is capturing"),
         "a download in a recording");
  Expect(Has(Thrown([&] { backend->EndRecording(); }), "due to a previous error during capture"),
         "spoils it");
  Expect(first() == 78, "and nothing else");
  backend->BeginRecording();
  Expect(backend->EndRecording() != nullptr, "an empty recording");
  backend->BeginRecording();
  const std::vector<uint8_t> large(size_t{65} << 20);
  Expect(Has(Thrown([&] { backend->Upload(x.data, large.data(), large.size()); }), "more than 64 MiB"),
         "a recording holds a bounded amount of uploads");
  backend->EndRecording();
  backend->memory().Give(reinterpret_cast<std::byte*>(memory), 4096);
}

void Fails() {
  {
    const auto backend = OpenCuda(0);
    auto* memory = backend->memory().Take(4096);
    const Tensor x = Matrix(DType::kFloat32, 1, 64, memory);
    backend->Gelu(x);
    float value;
    backend->Download(&value, memory, 4);
    const With fault("CUDA_ON_HOST_FAIL_LAUNCH", std::to_string(cuda_on_host::Launches() + 1));
    Expect(Thrown([&] { backend->Gelu(x); }).empty(), "a fault that comes later");
    const std::string message = Thrown([&] { backend->Download(&value, memory, 4); });
    Expect(Has(message, "download: launch") && Has(message, "(cudaErrorLaunchFailure)"), message);
    Expect(!Thrown([&] { backend->Gelu(x); }).empty(), "nothing works any more");
    backend->memory().Give(memory, 4096);
  }  // closed without a crash
  Expect(!Thrown([] { OpenCuda(0); }).empty(), "a broken device cannot be opened");
  Mend();
}

/// Grids with nothing in them must not be launched.
void TakesEmptyTensors() {
  const auto backend = OpenCuda(0);
  std::byte* data = backend->memory().Take(4096);
  const long long before = cuda_on_host::Launches();
  for (const DType dtype : {DType::kFloat32, DType::kBFloat16}) {
    for (const auto& [rows, cols] : {std::pair{0, 6}, std::pair{0, 64}, std::pair{3, 0}}) {
      const Tensor x = Matrix(dtype, rows, cols, data), v = Matrix(dtype, 1, cols, data);
      const Tensor thirds = Matrix(dtype, 1, cols / 3, data), sums = Matrix(DType::kFloat32, rows, 2, data);
      const Tensor indices = Matrix(DType::kInt32, 1, rows == 0 ? 0 : 1, data);
      backend->FillRandom(x, 1, 0, 1);
      backend->Convert(x, &v, x);
      backend->Embedding(v, indices, 0, x);
      backend->RmsNorm(x, v, 1e-6f, x);
      backend->LayerNorm(x, v, v, 1e-6f, x);
      backend->QkSumSquares(x, sums);
      backend->QkNorm(x, thirds, thirds, sums, 1, 1e-6f);
      backend->Gelu(x);
      backend->SiluMul(x, Matrix(dtype, rows, cols / 2, data));
      backend->AddScaled(x, x, &v);
      backend->GatherRows(x, indices, x);
      if (rows == 0) backend->ResolveIds(indices, indices);
    }
  }
  Downloaded(*backend, data, 1);
  Expect(cuda_on_host::Launches() == before, "no kernels for nothing");
  backend->memory().Give(data, 4096);
}

}  // namespace

int main() {
  OpensDevices();
  GivesMemory();
  Uploads();
  UploadsPieces();
  Moves();
  DownloadsLater();
  Records();
  TakesEmptyTensors();
  Fails();
  return Finish();
}
