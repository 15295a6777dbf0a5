// Products on the emulation against sums in double precision: every combination of types, every way to
// compute them, rows and columns that fill no tile.
#include "../matmul.h"

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "../../../cuda_on_host/device.h"
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
    std::uniform_int_distribution<int> eighths(-24, 24), bytes(-127, 127), codes(0, 0x7e), signs(0, 1);
    for (int64_t i = 0; i < tensor.elements(); ++i) {
      const float value = static_cast<float>(dtype == DType::kInt8 ? bytes(random) : eighths(random)) / 8;
      if (dtype == DType::kFloat8) {
        tensor.as<Float8>()[i].bits = static_cast<uint8_t>(signs(random) << 7 | codes(random));
      }
      if (dtype == DType::kInt8) tensor.as<int8_t>()[i] = static_cast<int8_t>(value * 8);
      if (dtype == DType::kBFloat16) tensor.as<BFloat16>()[i] = ToBFloat16(value);
      if (dtype == DType::kFloat32) tensor.as<float>()[i] = value + 0x1p-12f;  // not a bfloat16
    }
    for (int64_t r = 0; IsQuantized(dtype) && r < rows; ++r) {
      tensor.scales()[r] = 0.01f + 0.001f * static_cast<float>(r % 7);
    }
  }
  /// As rows that e4m3 is multiplied with: each to its own scale.
  std::vector<double> Rounded() const {
    std::vector<double> rounded(static_cast<size_t>(tensor.elements()));
    for (int64_t row = 0; row < tensor.rows(); ++row) {
      const int64_t first = row * tensor.cols();
      float most = 0;
      for (int64_t i = 0; i < tensor.cols(); ++i)
        most = std::max(most, std::abs(static_cast<float>(at(first + i))));
      for (int64_t i = first; i < first + tensor.cols(); ++i) {
        const float factor = most == 0 ? 0 : 448.0f / most;
        rounded[static_cast<size_t>(i)] =
            double{FromFloat8(ToFloat8(static_cast<float>(at(i)) * factor))} * (most / 448.0f);
      }
    }
    return rounded;
  }
  double at(int64_t i) const {
    if (tensor.dtype == DType::kInt8)
      return tensor.as<int8_t>()[i] * double{tensor.scales()[i / tensor.cols()]};
    if (tensor.dtype == DType::kFloat8)
      return ToFloat(tensor.as<Float8>()[i]) * double{tensor.scales()[i / tensor.cols()]};
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

/// e4m3 is multiplied with e4m3 where the device does, in whole vectors.
bool RoundsRows(const Case& c) {
  const char* capability = std::getenv("CUDA_ON_HOST_CAPABILITY");
  return (capability == nullptr || std::atoi(capability) >= 89) && c.rows > 16 && c.x == DType::kBFloat16 &&
         c.weight == DType::kFloat8 && c.k > 0 && c.k % 16 == 0 && c.k <= 32768 && c.n % 4 == 0;
}

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
    std::vector<double> factors = x.Rounded();
    if (!RoundsRows(c)) {
      for (int64_t i = 0; i < x.tensor.elements(); ++i) factors[static_cast<size_t>(i)] = x.at(i);
    }
    double worst = 0;
    for (int64_t row = 0; row < c.rows; ++row) {
      for (int64_t column = 0; column < c.n; ++column) {
        double sum = c.bias == 0 ? 0 : bias.at(column), size = std::abs(sum);
        for (int64_t i = 0; i < c.k; ++i) {
          const double product = factors[static_cast<size_t>(row * c.k + i)] * weight.at(column * c.k + i);
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

/// Every way to multiply rows in e4m3: with the scales inside the product and after it, all outputs at once
/// and some at a time, rows of one, two and four packs a thread, and rows that are left as they are.
void RunFloat8(MatmulTest& test) {
  constexpr DType kFloat32 = DType::kFloat32, kBFloat16 = DType::kBFloat16, kFloat8 = DType::kFloat8;
  for (const DType out : {kFloat32, kBFloat16}) {
    for (const int bias : {0, 1, 2}) {
      for (const int64_t n : {36, 40, 37}) test.Run({17, n, 64, kBFloat16, kFloat8, out, bias});
      test.Run({50, 40, 72, kBFloat16, kFloat8, out, bias});
    }
  }
  for (const int64_t k : {16, 4096, 4112, 8192, 8208, 20480, 32768, 32784}) {
    test.Run({18, 8, k, kBFloat16, kFloat8, kBFloat16, 0});
  }
  test.Run({17, 2100, 16, kBFloat16, kFloat8, kBFloat16, 2});
  test.Run({16384, 516, 16, kBFloat16, kFloat8, kBFloat16, 1});
}

void RunAll() {
  MatmulTest test;
  constexpr DType kFloat32 = DType::kFloat32, kBFloat16 = DType::kBFloat16, kInt8 = DType::kInt8,
                  kFloat8 = DType::kFloat8;
  for (const DType x : {kFloat32, kBFloat16}) {
    for (const DType weight : {kFloat32, kBFloat16, kInt8, kFloat8}) {
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
  for (const DType weight : {kBFloat16, kInt8, kFloat8, kFloat32}) {
    for (const int64_t rows : {1, 4, 16}) test.Run({rows, 18, 2496, kBFloat16, weight, kBFloat16, 2});
  }
  test.Run({17, 2100, 16, kBFloat16, kInt8, kBFloat16, 2});
  test.Run({17, 2100, 16, kFloat32, kBFloat16, kFloat32, 1});
  RunFloat8(test);
  const long long launches = cuda_on_host::Launches();
  test.Run({17, 40, 64, kBFloat16, kFloat8, kBFloat16, 0});
  Expect(cuda_on_host::Launches() - launches == 1,
         "scales are inside the product: x is rounded, and no sums stored");
  for (const int64_t k : {0, 1}) test.Run({20, 3, k, kBFloat16, kBFloat16, kFloat32, 1});
  for (const int64_t rows : {1, 7, 30}) {
    test.RunCaptured({rows, 40, 64, kBFloat16, kBFloat16, kBFloat16, 0});
    test.RunCaptured({rows, 40, 64, kBFloat16, kInt8, kBFloat16, 0});
    test.RunCaptured({rows, 40, 64, kBFloat16, kFloat8, kBFloat16, 0});
  }
  test.Measure(true);
  for (const int64_t rows : {40, 41}) test.Run({rows, 24, 32, kBFloat16, kBFloat16, kBFloat16, 2});
  for (const int64_t rows : {40, 41}) test.Run({rows, 24, 32, kBFloat16, kFloat8, kBFloat16, 0});
  test.Measure(false);
  test.Run({40, 24, 32, kBFloat16, kBFloat16, kBFloat16, 2});
}

/// What is refused on a device, or by a library, is computed another way.
void RunElsewhere(const char* name, const char* value) {
  setenv(name, value, 1);
  MatmulTest test;
  RunFloat8(test);
  unsetenv(name);
}

}  // namespace
}  // namespace internvl::cuda

int main() {
  internvl::cuda::RunAll();
  internvl::cuda::RunElsewhere("CUDA_ON_HOST_OUTER_VECTORS", "0");
  for (const char* capability : {"80", "89", "100"}) {
    internvl::cuda::RunElsewhere("CUDA_ON_HOST_CAPABILITY", capability);
  }
  return Finish();
}
