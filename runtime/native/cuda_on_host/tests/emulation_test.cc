// That the emulation computes what a device would and reports what a device would choke on.
#include <chrono>
#include <cstring>
#include <utility>
#include <vector>

#include "cuda_runtime.h"
#include "device.h"
#include "expect.h"

namespace {

using cuda_on_host::Mend;

/// Launches and waits; the message of the failure, or "".
template <typename... Parameters, typename... Arguments>
std::string Run(void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared, Arguments... arguments) {
  Mend();
  cudaStream_t stream;
  cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
  cuda_on_host::Launch(reinterpret_cast<const void*>(kernel), grid, block, shared, stream,
                       [=] { kernel(static_cast<Parameters>(arguments)...); });
  cudaError_t error = cudaGetLastError();
  if (error == cudaSuccess) error = cudaStreamSynchronize(stream);
  std::string message = error == cudaSuccess ? "" : cudaGetErrorString(error);
  Mend();
  cudaStreamDestroy(stream);
  return message;
}

template <typename T>
T* OnDevice(size_t count) {
  T* pointer;
  cudaMalloc(&pointer, count * sizeof(T));
  std::memset(pointer, 0, count * sizeof(T));
  return pointer;
}

bool Has(const std::string& text, const char* part) { return text.find(part) != std::string::npos; }

// --- kernels

__global__ void SumBlock(const float* x, float* out) {
  __shared__ float partial[32];
  float sum = x[blockIdx.x * blockDim.x + threadIdx.x];
  for (int delta = 16; delta > 0; delta /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, delta);
  if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = sum;
  __syncthreads();
  if (threadIdx.x == 0) {
    float total = 0;
    for (unsigned w = 0; w < blockDim.x / 32; ++w) total += partial[w];
    out[blockIdx.x] = total;
  }
}

__global__ void Lanes(int* out) {
  const int lane = static_cast<int>(threadIdx.x);
  int* row = out + lane * 8;
  row[0] = __shfl_sync(0xffffffffu, lane, 3, 8);
  row[1] = __shfl_down_sync(0xffffffffu, lane, 4);
  row[2] = __shfl_up_sync(0xffffffffu, lane, 4);
  row[3] = static_cast<int>(__ballot_sync(0xffffffffu, lane % 3 == 0));
  row[4] = __any_sync(0xffffffffu, lane == 31);
  row[5] = __all_sync(0xffffffffu, lane < 31);
  if (lane < 16) row[6] = __shfl_xor_sync(0xffffu, lane, 1);
  int all[32];
  cuda_on_host::WarpExchange(lane * lane, all);
  row[7] = all[31 - lane];
}

__global__ void DivergentBarrier() {
  if (threadIdx.x < 32) __syncthreads();
}
__global__ void TwoBarriers() {
  if (threadIdx.x < 32) {
    __syncthreads();
  } else {
    __syncthreads();
  }
}
__global__ void DisagreeingLanes() {
  if (threadIdx.x < 16) {
    __shfl_xor_sync(0xffffffffu, 1, 1);
  } else {
    __shfl_xor_sync(0xffffffffu, 1, 1);
  }
}
__global__ void EndedLane() {
  if (threadIdx.x == 5) return;
  __syncwarp();
}
__global__ void Write(float* x, int64_t index) { x[index] = 1; }
__global__ void WriteShared(size_t bytes) { static_cast<char*>(cuda_on_host::DynamicShared())[bytes] = 1; }
__global__ void ReadShared(float* out) {
  const auto* shared = static_cast<float*>(cuda_on_host::DynamicShared());
  *out = shared[threadIdx.x];
}
/// Without a barrier between the writes and the reads: some order of threads shows it.
__global__ void Race(int* wrong) {
  auto* shared = static_cast<int*>(cuda_on_host::DynamicShared());
  shared[threadIdx.x] = static_cast<int>(threadIdx.x);
  const unsigned neighbour = (threadIdx.x + 1) % blockDim.x;
  if (shared[neighbour] != static_cast<int>(neighbour)) *wrong = 1;
}
__global__ void AddOne(int* x) { *x += 1; }

__global__ void Barriers(int count) {
  for (int i = 0; i < count; ++i) __syncthreads();
}

// --- tests

void Computes() {
  float* x = OnDevice<float>(3 * 1024);
  float* out = OnDevice<float>(3);
  for (int i = 0; i < 3 * 1024; ++i) x[i] = static_cast<float>(i % 7);
  Expect(Run(SumBlock, 3, 1024, 0, x, out) == "", "a block's sum");
  for (int b = 0; b < 3; ++b) {
    float sum = 0;
    for (int i = 0; i < 1024; ++i) sum += x[b * 1024 + i];
    Expect(out[b] == sum, "the sum of block " + std::to_string(b));
  }
  int* lanes = OnDevice<int>(32 * 8);
  Expect(Run(Lanes, 1, 32, 0, lanes) == "", "collectives");
  for (int lane = 0; lane < 32; ++lane) {
    const int* row = lanes + lane * 8;
    const int expected[8] = {lane / 8 * 8 + 3,
                             lane + 4 < 32 ? lane + 4 : lane,
                             lane >= 4 ? lane - 4 : lane,
                             0x49249249,
                             1,
                             0,
                             lane < 16 ? lane ^ 1 : 0,
                             (31 - lane) * (31 - lane)};
    for (int i = 0; i < 8; ++i)
      Expect(row[i] == expected[i], "collective " + std::to_string(i) + " of lane " + std::to_string(lane));
  }
  cudaFree(x);
  cudaFree(out);
  cudaFree(lanes);
}

void ReportsMistakes() {
  Expect(Has(Run(DivergentBarrier, 1, 64, 0), "32 have ended, 32 wait for a barrier"), "a divergent barrier");
  Expect(Has(Run(TwoBarriers, 1, 64, 0), "a barrier at which other threads"), "two barriers");
  Expect(Has(Run(DisagreeingLanes, 1, 32, 0), "other lanes of its mask wait"), "disagreeing lanes");
  Expect(Has(Run(EndedLane, 1, 32, 0), "have ended or do not exist") ||
             Has(Run(EndedLane, 1, 32, 0), "wait for a warp collective"),
         "an ended lane");
  float* x = OnDevice<float>(64);
  Expect(Has(Run(Write, 1, 1, 0, x, 64), "0 bytes after 256 bytes of device memory"), "a write behind");
  Expect(Has(Run(Write, 1, 1, 0, x, -4000), "bytes before 256 bytes") ||
             Has(Run(Write, 1, 1, 0, x, -4000), "not of the device"),
         "a write in front");
  Expect(Has(Run(Write, 1, 1, 0, nullptr, 0), "not of the device"), "a null pointer");
  Expect(Has(Run(WriteShared, 1, 1, 128, 128), "outside its shared memory"), "shared memory");
  Expect(Run(ReadShared, 1, 1, 128, x) == "" && x[0] != x[0], "unwritten shared memory is NaN");
  Expect(Has(Run(ReadShared, 1, 1, 49 << 10, x), "invalid configuration"), "too much shared memory");
  cudaFuncSetAttribute(ReadShared, cudaFuncAttributeMaxDynamicSharedMemorySize, 64 << 10);
  Expect(Run(ReadShared, 1, 1, 49 << 10, x) == "", "allowed shared memory");
  Expect(Has(Run(Write, 0, 1, 0, x, 0), "invalid configuration"), "an empty grid");
  Expect(Has(Run(Write, 1, 1025, 0, x, 0), "invalid configuration"), "a block too large");
  cudaFree(x);

  int* wrong = OnDevice<int>(1);
  for (int i = 0; i < 8; ++i) Run(Race, 2, 64, 64 * sizeof(int), wrong);
  Expect(*wrong == 1, "a missing barrier");
  cudaFree(wrong);

  float* small = OnDevice<float>(5);
  small[5] = 1;
  Expect(cudaFree(small) == cudaErrorIllegalAddress, "a write into the padding");
  Mend();
}

void DefersWork() {
  Mend();
  cudaStream_t stream, other;
  cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
  cudaStreamCreateWithFlags(&other, cudaStreamNonBlocking);
  cudaEvent_t event;
  cudaEventCreateWithFlags(&event, cudaEventDisableTiming);
  int *device, *pinned, pageable = 1;
  cudaMalloc(&device, 4);
  cudaMallocHost(&pinned, 4);
  *pinned = 7;
  cudaMemcpyAsync(device, pinned, 4, cudaMemcpyHostToDevice, stream);
  *pinned = 8;
  cudaEventRecord(event, stream);
  cudaStreamWaitEvent(other, event);
  cudaStreamSynchronize(other);
  Expect(*device == 8, "pinned memory is read late, and an event waits for it");
  cudaMemcpyAsync(device, &pageable, 4, cudaMemcpyHostToDevice, stream);
  pageable = 2;
  cudaStreamSynchronize(stream);
  Expect(*device == 1, "pageable memory is read at once");
  cudaMemcpyAsync(&pageable, device, 4, cudaMemcpyDeviceToHost, stream);
  Expect(pageable == 1, "pageable memory is written at once");
  Expect(cudaMemcpyAsync(device, pinned, 8, cudaMemcpyHostToDevice, stream) == cudaErrorInvalidValue,
         "a copy that is too long");
  Expect(cudaMemcpyAsync(device, pinned, 4, cudaMemcpyDeviceToDevice, stream) == cudaErrorInvalidValue,
         "a copy of the wrong kind");
  cudaEventDestroy(event);
  cudaFree(device);
  cudaFreeHost(pinned);
  cudaStreamDestroy(other);
  cudaStreamDestroy(stream);
}

void CapturesGraphs() {
  Mend();
  cudaStream_t stream;
  cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
  int *device, *pinned;
  cudaMalloc(&device, 4);
  cudaMallocHost(&pinned, 4);
  *pinned = 10;
  cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal);
  cudaMemcpyAsync(device, pinned, 4, cudaMemcpyHostToDevice, stream);
  cuda_on_host::Launch(reinterpret_cast<const void*>(AddOne), 1, 1, 0, stream, [=] { AddOne(device); });
  cudaGraph_t graph;
  cudaGraphExec_t executable;
  Expect(cudaStreamEndCapture(stream, &graph) == cudaSuccess, "a capture");
  cudaGraphInstantiate(&executable, graph);
  cudaGraphDestroy(graph);
  for (int value : {20, 30}) {
    *pinned = value;
    cudaGraphLaunch(executable, stream);
    cudaStreamSynchronize(stream);
    Expect(*device == value + 1, "a replay reads what pinned memory holds by then");
  }
  cudaGraphExecDestroy(executable);

  for (const auto call : {+[](cudaStream_t s) { return cudaStreamSynchronize(s); },
                          +[](cudaStream_t) {
                            void* p;
                            return cudaMalloc(&p, 4);
                          }}) {
    cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal);
    Expect(call(stream) == cudaErrorStreamCaptureUnsupported, "a synchronous call in a capture");
    Expect(cudaStreamEndCapture(stream, &graph) == cudaErrorStreamCaptureInvalidated && graph == nullptr,
           "invalidates it");
    cudaGetLastError();
  }
  cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal);
  cudaStreamCaptureMode mode = cudaStreamCaptureModeRelaxed;
  cudaThreadExchangeStreamCaptureMode(&mode);
  void* more;
  Expect(cudaMalloc(&more, 4) == cudaSuccess, "an allocation in a relaxed capture");
  cudaFree(more);
  cudaThreadExchangeStreamCaptureMode(&mode);
  Expect(cudaStreamEndCapture(stream, &graph) == cudaSuccess, "an empty capture");
  cudaGraphDestroy(graph);
  cudaFree(device);
  cudaFreeHost(pinned);
  cudaStreamDestroy(stream);
}

void PretendsMachines() {
  Mend();
  int count;
  setenv("CUDA_ON_HOST_DEVICES", "0", 1);
  Expect(cudaGetDeviceCount(&count) == cudaErrorNoDevice, "no device");
  setenv("CUDA_ON_HOST_DEVICES", "2", 1);
  Expect(cudaGetDeviceCount(&count) == cudaSuccess && count == 2, "two devices");
  Expect(cudaSetDevice(2) == cudaErrorInvalidDevice, "no third device");
  setenv("CUDA_ON_HOST_DRIVER", "0", 1);
  Expect(cudaGetDeviceCount(&count) == cudaErrorInsufficientDriver, "no driver");
  unsetenv("CUDA_ON_HOST_DRIVER");
  setenv("CUDA_ON_HOST_MEMORY", "1000", 1);
  void *p, *q;
  Expect(cudaMalloc(&p, 600) == cudaSuccess, "memory within the limit");
  Expect(cudaMalloc(&q, 600) == cudaErrorMemoryAllocation && q == nullptr, "memory beyond the limit");
  size_t free, total;
  cudaMemGetInfo(&free, &total);
  Expect(free == 400 && total == 1000, "how much memory is free");
  cudaFree(p);
  unsetenv("CUDA_ON_HOST_MEMORY");
  setenv("CUDA_ON_HOST_FAIL_LAUNCH", std::to_string(cuda_on_host::Launches() + 2).c_str(), 1);
  Expect(Run(Barriers, 1, 32, 0, 1) == "", "the launch before the one that fails");
  Expect(Has(Run(Barriers, 1, 32, 0, 1), "was told to fail"), "the one that fails");
  unsetenv("CUDA_ON_HOST_FAIL_LAUNCH");
  cudaGetLastError();
  Mend();
}

}  // namespace

int main() {
  Computes();
  ReportsMistakes();
  DefersWork();
  CapturesGraphs();
  PretendsMachines();
  const auto start = std::chrono::steady_clock::now();
  Run(Barriers, 1, 1024, 0, 1000);
  const auto took = std::chrono::steady_clock::now() - start;
  std::printf("%.0f ns for a thread's barrier\n",
              std::chrono::duration<double, std::nano>(took).count() / 1024 / 1000);
  return Finish();
}
