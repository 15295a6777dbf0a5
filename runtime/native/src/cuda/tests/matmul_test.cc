// Products on the emulation against sums in double precision: every combination of types, every way to
// compute them, rows and columns that fill no tile.
#include "../matmul.h"

#include <cmath>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "../../../cuda_on_host/tests/expect.h"
#include "../launch.h"

namespace internvl::cuda {

namespace {

/// Results are NaN until they are written.
class NanMemory final : public MemorySource {
 public:
  std::byte* Take(size_t bytes) override {
    void* data;
    Check(cudaMalloc(&data, bytes), "cudaMalloc");
    std::memset(data, 0xff, bytes);
    return static_cast<std::byte*>(data);
  }
  void Give(std::byte* data, size_t) override { cudaFree(data); }
};

/// A tensor with small random values, and those values.
struct Values {
  Values(MemorySource& source, DType dtype, int64_t rows, int64_t cols, std::mt19937& random) {
    tensor = {.dtype = dtype, .dims = 2, .shape = {rows, cols}};
    memory = Memory(source, static_cast<size_t>(std::max<int64_t>(tensor.bytes(), 1)));
    tensor.data = memory.data();
    std::uniform_int_distribution<int> eighths(-24, 24), bytes(-127, 127);
    for (int64_t i = 0; i < tensor.elements(); ++i) {
      const float value = static_cast<float>(dtype == DType::kInt8 ? bytes(random) : eighths(random)) / 8;
      if (dtype == DType::kInt8) tensor.as<int8_t>()[i] = static_cast<int8_t>(value * 8);
      if (dtype == DType::kBFloat16) tensor.as<BFloat16>()[i] = ToBFloat16(value);
      if (dtype == DType::kFloat32) tensor.as<float>()[i] = value + 0x1p-12f;  // not a bfloat16
    }
    for (int64_t r = 0; dtype == DType::kInt8 && r < rows; ++r) {
      tensor.scales()[r] = 0.01f + 0.001f * static_cast<float>(r % 7);
    }
  }
  double at(int64_t i) const {
    if (tensor.dtype == DType::kInt8)
      return tensor.as<int8_t>()[i] * double{tensor.scales()[i / tensor.cols()]};
    return tensor.dtype == DType::kFloat32 ? tensor.as<float>()[i] : ToFloat(tensor.as<BFloat16>()[i]);
  }
  Memory memory;
  Tensor tensor;
};

struct Case {
  int64_t rows, n, k;
  DType x, weight, out;
  int bias;  // 0: none, 1: float32, 2: bfloat16
  std::string Name() const {
    return std::to_string(rows) + " x " + std::to_string(k) + " times " + std::to_string(n) + ", " +
           DTypeName(x) + " * " + DTypeName(weight) + " + " +
           (bias == 0   ? "none"
            : bias == 1 ? "float32"
                        : "bfloat16") +
           " -> " + DTypeName(out);
  }
};

cudaStream_t NewStream() {
  cudaStream_t stream;
  Check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreate");
  return stream;
}

class MatmulTest {
 public:
  void Run(const Case& c) {
    const Values x(memory_, c.x, c.rows, c.k, random_), weight(memory_, c.weight, c.n, c.k, random_);
    const Values bias(memory_, c.bias == 2 ? DType::kBFloat16 : DType::kFloat32, 1, c.n, random_);
    const Values out(memory_, c.out, c.rows, c.n, random_);
    std::memset(out.tensor.data, 0xff, static_cast<size_t>(out.tensor.bytes()));
    Tensor vector = bias.tensor;
    vector.dims = 1, vector.shape = {c.n};
    const auto before = arena_.position();
    matmul_.Run(x.tensor, weight.tensor, c.bias == 0 ? nullptr : &vector, out.tensor, arena_);
    Expect(before.offset == arena_.position().offset, "working memory is given back: " + c.Name());
    Check(cudaStreamSynchronize(stream_), "cudaStreamSynchronize");
    double worst = 0;
    for (int64_t row = 0; row < c.rows; ++row) {
      for (int64_t column = 0; column < c.n; ++column) {
        double sum = c.bias == 0 ? 0 : bias.at(column), size = std::abs(sum);
        for (int64_t i = 0; i < c.k; ++i) {
          const double product = x.at(row * c.k + i) * weight.at(column * c.k + i);
          sum += product, size += std::abs(product);
        }
        const double rounding = c.out == DType::kFloat32 ? 0 : 0x1p-8 * std::abs(sum);
        const double error = std::abs(out.at(row * c.n + column) - sum);
        // A NaN is an error too.
        worst = std::max(worst, error <= size * 0x1p-20 + rounding ? 0 : std::isnan(error) ? 1e9 : error);
      }
    }
    Expect(worst == 0, c.Name() + ": off by " + std::to_string(worst));
  }

  /// A captured product reads what is there when it is replayed, and allocates nothing.
  void RunCaptured(const Case& c) {
    Run(c);
    const Values x(memory_, c.x, c.rows, c.k, random_), weight(memory_, c.weight, c.n, c.k, random_);
    const Values out(memory_, c.out, c.rows, c.n, random_), expected(memory_, c.out, c.rows, c.n, random_);
    matmul_.Run(x.tensor, weight.tensor, nullptr, expected.tensor, arena_);
    Check(cudaStreamSynchronize(stream_), "cudaStreamSynchronize");
    Check(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeGlobal), "capture");
    matmul_.Run(x.tensor, weight.tensor, nullptr, out.tensor, arena_);
    cudaGraph_t graph;
    cudaGraphExec_t executable;
    Check(cudaStreamEndCapture(stream_, &graph), "capture");
    Check(cudaGraphInstantiate(&executable, graph), "instantiate");
    Check(cudaGraphLaunch(executable, stream_), "launch");
    Check(cudaStreamSynchronize(stream_), "cudaStreamSynchronize");
    Expect(std::memcmp(out.tensor.data, expected.tensor.data, static_cast<size_t>(out.tensor.bytes())) == 0,
           "captured: " + c.Name());
    cudaGraphExecDestroy(executable);
    cudaGraphDestroy(graph);
  }

  void Measure(bool on) { matmul_.Measure(on); }

 private:
  NanMemory memory_;
  const cudaStream_t stream_ = NewStream();
  std::mt19937 random_{1};
  Matmul matmul_{stream_, memory_};
  Arena arena_{memory_};
};

void RunAll() {
  MatmulTest test;
  constexpr DType kFloat32 = DType::kFloat32, kBFloat16 = DType::kBFloat16, kInt8 = DType::kInt8;
  for (const DType x : {kFloat32, kBFloat16}) {
    for (const DType weight : {kFloat32, kBFloat16, kInt8}) {
      for (const DType out : {kFloat32, kBFloat16}) {
        for (const int bias : {0, 1, 2}) {
          for (const int64_t rows : {1, 2, 3, 5, 9, 16, 17}) {
            test.Run({rows, 37, 64, x, weight, out, bias});
            test.Run({rows, 5, 21, x, weight, out, bias});
          }
        }
      }
    }
  }
  // Longer than a turn of a block, with a rest; tiles of a widened weight, with a rest.
  for (const DType weight : {kBFloat16, kInt8, kFloat32}) {
    for (const int64_t rows : {1, 4, 16}) test.Run({rows, 18, 2496, kBFloat16, weight, kBFloat16, 2});
  }
  test.Run({17, 2100, 16, kBFloat16, kInt8, kBFloat16, 2});
  test.Run({17, 2100, 16, kFloat32, kBFloat16, kFloat32, 1});
  for (const int64_t k : {0, 1}) test.Run({20, 3, k, kBFloat16, kBFloat16, kFloat32, 1});
  for (const int64_t rows : {1, 7, 30}) {
    test.RunCaptured({rows, 40, 64, kBFloat16, kBFloat16, kBFloat16, 0});
    test.RunCaptured({rows, 40, 64, kBFloat16, kInt8, kBFloat16, 0});
  }
  test.Measure(true);
  for (const int64_t rows : {40, 41}) test.Run({rows, 24, 32, kBFloat16, kBFloat16, kBFloat16, 2});
  test.Measure(false);
  test.Run({40, 24, 32, kBFloat16, kBFloat16, kBFloat16, 2});
}

}  // namespace
}  // namespace internvl::cuda

int main() {
  internvl::cuda::RunAll();
  return Finish();
}
