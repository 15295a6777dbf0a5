// Attention kernels on the emulation against a reference in double precision. Results are NaN before each
// run, and so is every slot of the cache that no sequence has.
#include <algorithm>
#include <cstdio>
#include <string>
#include <vector>

#include "../../../cuda_on_host/tests/expect.h"
#include "../vision_attention.h"
#include "attention_reference.h"
#include "device_array.h"
#include "paged_case.h"

namespace internvl::cuda {

namespace {

template <typename T, typename Cached = T>
std::string Name() {
  const std::string name = std::is_same_v<T, float> ? "float32" : "bfloat16";
  return std::is_same_v<Cached, Float8> ? name + ", float8 cache" : name;
}

/// A positive scale from flat weights to one that takes all.
constexpr float kScales[] = {0.03f, 0.0884f, 0.5f};

struct Tally {
  Worst vision, prefill, decode, mixed;
};
template <typename T, typename Cached = T>
Tally tally;

template <typename T>
void TestImages(int64_t images, int64_t length, int64_t heads, int64_t dim, float scale) {
  const int64_t width = heads * dim, rows = images * length;
  const std::vector<T> qkv = Random<T>(static_cast<size_t>(rows * 3 * width));
  const DeviceArray<T> on_device(qkv), out(static_cast<size_t>(rows * width));
  AttendImages(Matrix(on_device, 3 * width), length, heads, dim, scale, Matrix(out, width), Stream());
  Check(cudaStreamSynchronize(Stream()), "images");
  const std::string name = Name<T>() + " images " + std::to_string(images) + " x " + std::to_string(length) +
                           ", " + std::to_string(heads) + " heads of " + std::to_string(dim) + ", scale " +
                           std::to_string(scale);
  std::string wrong;
  // Of many rows some, the ends among them.
  const int64_t step = std::max<int64_t>(1, rows * heads / 600);
  for (int64_t item = 0; item < rows * heads; item += item + step < rows * heads ? step : 1) {
    const int64_t row = item / heads, head = item % heads;
    std::vector<const T*> keys, values;
    for (int64_t i = 0; i < length; ++i) {
      const T* const token = qkv.data() + (row / length * length + i) * 3 * width + head * dim;
      keys.push_back(token + width);
      values.push_back(token + 2 * width);
    }
    wrong = CompareRow(qkv.data() + row * 3 * width + head * dim, keys, values, dim, scale,
                       out.data() + row * width + head * dim, tally<T>.vision);
    if (wrong.empty()) continue;
    wrong = "row " + std::to_string(row) + " head " + std::to_string(head) + " " + wrong;
    break;
  }
  Expect(wrong.empty(), name + ": " + wrong);
}

int64_t MostBlocks(const std::vector<Sequence>& sequences, int64_t block_size) {
  int64_t most = 0;
  for (const Sequence& s : sequences) most = std::max(most, (s.context + block_size - 1) / block_size);
  return most;
}

Arena& DeviceArena() {
  static UnwrittenMemory source;
  static auto* const arena = new Arena(source);  // the emulation may be gone before what is destroyed at exit
  return *arena;
}

template <typename T, typename Cached>
void TestPages(const std::vector<Sequence>& sequences, const Layout& layout, float scale) {
  const int64_t unused = static_cast<int64_t>(random_numbers() % 3);
  PagedCase<T, Cached> paged(sequences, layout, MostBlocks(sequences, layout.block_size) + unused);
  {
    Scratch scratch(DeviceArena());
    paged.Launch(scale, scratch);
  }
  Check(cudaStreamSynchronize(Stream()), "pages");
  const auto one = [](const Sequence& s) { return s.queries <= 1; };
  const auto several = [](const Sequence& s) { return s.queries != 1; };
  Tally& counted = tally<T, Cached>;
  Worst& worst = std::all_of(sequences.begin(), sequences.end(), one)       ? counted.decode
                 : std::all_of(sequences.begin(), sequences.end(), several) ? counted.prefill
                                                                            : counted.mixed;
  const std::string wrong = paged.Compare(scale, worst);
  Expect(wrong.empty(), Name<T, Cached>() + " pages, " + std::to_string(layout.heads) + " heads, " +
                            std::to_string(layout.kv_heads) + " kv heads of " + std::to_string(layout.dim) +
                            ", blocks of " + std::to_string(layout.block_size) + ", scale " +
                            std::to_string(scale) + ": " + wrong);
}

/// Launches captured for some sequences, replayed for others in as many rows.
template <typename T, typename Cached>
void TestReplay(const std::vector<Sequence>& captured, const std::vector<std::vector<Sequence>>& replayed,
                const Layout& layout) {
  int64_t max_blocks = MostBlocks(captured, layout.block_size);
  for (const auto& sequences : replayed) {
    max_blocks = std::max(max_blocks, MostBlocks(sequences, layout.block_size));
  }
  PagedCase<T, Cached> paged(captured, layout, max_blocks);
  Check(cudaStreamBeginCapture(Stream(), cudaStreamCaptureModeThreadLocal), "capture");
  Scratch scratch(DeviceArena());
  paged.Launch(0.1f, scratch);
  cudaGraph_t graph;
  cudaGraphExec_t executable;
  Check(cudaStreamEndCapture(Stream(), &graph), "end of capture");
  Check(cudaGraphInstantiate(&executable, graph), "instantiate");
  for (const auto& sequences : replayed) {
    paged.Replace(sequences);
    Check(cudaGraphLaunch(executable, Stream()), "replay");
    Check(cudaStreamSynchronize(Stream()), "replay");
    const std::string wrong = paged.Compare(0.1f, tally<T, Cached>.mixed);
    Expect(wrong.empty(), Name<T, Cached>() + " replay: " + wrong);
  }
  cudaGraphExecDestroy(executable);
  cudaGraphDestroy(graph);
}

template <typename T>
void TestAllImages() {
  for (const int64_t dim : {128, 64, 16, 7}) {
    for (const int64_t length : {1, 17, 63, 64, 65, 128, 129, 200}) {
      TestImages<T>(1 + length % 2, length, 1 + length % 3, dim, kScales[length % 3]);
    }
  }
  TestImages<T>(1, 1025, 2, 128, 0.0884f);
  TestImages<T>(2, 33, 2, 128, -0.1f);
  TestImages<T>(2, 33, 2, 128, 0.0f);
  TestImages<T>(1, 9, 1, 300, 0.05f);
}

template <typename T, typename Cached = T>
void TestAllPages() {
  const std::vector<Layout> layouts = {{7, 1, 128, 16}, {14, 2, 128, 32}, {4, 4, 128, 1}, {8, 2, 64, 16},
                                       {8, 1, 128, 48}, {20, 1, 64, 5},   {6, 2, 10, 3},  {7, 1, 32, 16}};
  for (size_t i = 0; i < layouts.size(); ++i) {
    const Layout& layout = layouts[i];
    const float scale = kScales[i % 3];
    TestPages<T, Cached>({{1, 1}}, layout, scale);
    TestPages<T, Cached>({{1, 15}, {1, 16}, {1, 17}, {1, 31}, {1, 32}, {1, 33}, {1, 63}, {1, 64}, {1, 65}},
                         layout, scale);
    TestPages<T, Cached>({{1, 300}, {1, 769}}, layout, scale);
    TestPages<T, Cached>({{0, 4}, {1, 128}, {0, 0}, {1, 127}}, layout, scale);
    TestPages<T, Cached>({{2, 2}}, layout, scale);
    TestPages<T, Cached>({{150, 150}}, layout, scale);
    TestPages<T, Cached>({{37, 200}}, layout, scale);
    TestPages<T, Cached>({{4, 70}, {5, 70}, {3, 3}, {0, 9}, {2, 64}}, layout, scale);
    TestPages<T, Cached>({{33, 33}, {0, 20}, {1, 129}, {0, 0}, {40, 41}, {1, 1}}, layout, scale);
    std::vector<Sequence> many;
    for (int s = 0; s < 12; ++s) {
      const auto queries = static_cast<int32_t>(random_numbers() % 4 == 0 ? random_numbers() % 50 : 1);
      many.push_back({queries, queries + static_cast<int32_t>(random_numbers() % 200)});
    }
    TestPages<T, Cached>(many, layout, scale);
    TestReplay<T, Cached>({{1, 1}, {1, 1}}, {{{1, 500}, {1, 3}}, {{1, 64}, {1, 129}}, {{1, 1}, {1, 2}}},
                          layout);
    TestReplay<T, Cached>({{5, 5}, {1, 1}}, {{{1, 50}, {5, 70}}, {{5, 140}, {1, 1}}}, layout);
  }
  TestPages<T, Cached>({{1, 2600}}, layouts[0], 0.0884f);
  TestPages<T, Cached>({{1, 300}, {3, 40}, {1, 90}}, {56, 8, 128, 16}, 0.0884f);
  TestPages<T, Cached>({{1025, 1025}}, {1, 1, 128, 16}, 0.0884f);
  TestPages<T, Cached>({{3, 40}, {1, 40}}, layouts[0], -0.1f);
}

template <typename T, typename Cached = T>
void Report() {
  const auto line = [](const char* what, const Worst& worst) {
    std::printf("%-22s %-8s %9lld elements, worst error %.3g, %.0f %% of what is allowed there\n",
                Name<T, Cached>().c_str(), what, static_cast<long long>(worst.compared), worst.error,
                100 * worst.part);
  };
  const Tally& counted = tally<T, Cached>;
  if (counted.vision.compared > 0) line("vision", counted.vision);
  line("prefill", counted.prefill);
  line("decode", counted.decode);
  line("mixed", counted.mixed);
}

}  // namespace
}  // namespace internvl::cuda

int main() {
  using namespace internvl;
  cuda::TestAllImages<BFloat16>();
  cuda::TestAllImages<float>();
  cuda::TestAllPages<BFloat16>();
  cuda::TestAllPages<float>();
  cuda::TestAllPages<BFloat16, Float8>();
  cuda::TestAllPages<float, Float8>();
  cuda::Report<BFloat16>();
  cuda::Report<float>();
  cuda::Report<BFloat16, Float8>();
  cuda::Report<float, Float8>();
  return Finish();
}
