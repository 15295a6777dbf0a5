#include "streams.h"

#include <algorithm>

#include "device.h"

namespace cuda_on_host {
namespace {

constexpr size_t kMostWaiting = 4096;

/// The streams that this thread has created.
std::vector<CUstream_st*>& Streams() {
  static thread_local std::vector<CUstream_st*> streams;
  return streams;
}

}  // namespace

void Queue::Push(Work work) {
  waiting_.push_back(std::move(work));
  ++pushed_;
  if (waiting_.size() > kMostWaiting) RunUntil(ran() + kMostWaiting / 2);
}

void Queue::RunUntil(uint64_t position) {
  while (ran() < position) {
    const Work work = std::move(waiting_.front());
    waiting_.pop_front();
    // A broken device does nothing any more.
    if (Broken() == cudaSuccess) work();
  }
}

void RunEverything() {
  for (const CUstream_st* stream : Streams()) stream->queue->RunUntil(stream->queue->pushed());
}

cudaError_t Enqueue(cudaStream_t stream, Work work) {
  if (Broken() != cudaSuccess) return Broken();
  if (stream == nullptr) {
    if (const cudaError_t error = RefuseInCapture(); error != cudaSuccess) return error;
    RunEverything();
    work();
    return Broken();
  }
  if (stream->invalidated) return Report(cudaErrorStreamCaptureInvalidated);
  if (stream->captured) {
    stream->captured->work.push_back(std::move(work));
  } else {
    stream->queue->Push(std::move(work));
  }
  return cudaSuccess;
}

bool IsCapturing(cudaStream_t stream) { return stream != nullptr && stream->captured != nullptr; }

namespace {

thread_local cudaStreamCaptureMode thread_mode = cudaStreamCaptureModeGlobal;

cudaError_t Invalidate(CUstream_st* stream) {
  stream->invalidated = true;
  return Report(cudaErrorStreamCaptureUnsupported);
}

}  // namespace

cudaError_t RefuseInCapture() {
  if (thread_mode == cudaStreamCaptureModeRelaxed) return cudaSuccess;
  for (CUstream_st* stream : Streams()) {
    if (stream->captured && stream->mode != cudaStreamCaptureModeRelaxed) return Invalidate(stream);
  }
  return cudaSuccess;
}

}  // namespace cuda_on_host

using namespace cuda_on_host;

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  if (Broken() != cudaSuccess) return Broken();
  *stream = new CUstream_st;
  Streams().push_back(*stream);
  return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  if (stream == nullptr) return Report(cudaErrorInvalidResourceHandle);
  stream->queue->RunUntil(stream->queue->pushed());
  std::erase(Streams(), stream);
  delete stream;
  return Broken();
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  if (stream == nullptr) return cudaDeviceSynchronize();
  if (stream->captured) return Invalidate(stream);
  stream->queue->RunUntil(stream->queue->pushed());
  return Broken();
}

cudaError_t cudaDeviceSynchronize() {
  if (const cudaError_t error = RefuseInCapture(); error != cudaSuccess) return error;
  RunEverything();
  return Broken();
}

// Each question lets one more piece of work be done.
cudaError_t cudaStreamQuery(cudaStream_t stream) {
  if (stream == nullptr) return Report(cudaErrorInvalidResourceHandle);
  if (stream->captured) return Invalidate(stream);
  Queue& queue = *stream->queue;
  queue.RunUntil(std::min(queue.pushed(), queue.ran() + 1));
  if (Broken() != cudaSuccess) return Broken();
  return queue.ran() == queue.pushed() ? cudaSuccess : cudaErrorNotReady;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  if (event == nullptr) return Report(cudaErrorInvalidResourceHandle);
  if (IsCapturing(stream)) return Invalidate(stream);
  if (!event->queue) return cudaSuccess;
  return Enqueue(stream, [queue = event->queue, position = event->position] { queue->RunUntil(position); });
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  if (Broken() != cudaSuccess) return Broken();
  *event = new CUevent_st;
  return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  if (event == nullptr) return Report(cudaErrorInvalidResourceHandle);
  delete event;
  return Broken();
}

// Forking a capture into other streams by events is left out.
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  if (event == nullptr || stream == nullptr) return Report(cudaErrorInvalidResourceHandle);
  if (stream->captured) return Invalidate(stream);
  event->queue = stream->queue;
  event->position = stream->queue->pushed();
  return Broken();
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  if (event == nullptr) return Report(cudaErrorInvalidResourceHandle);
  if (const cudaError_t error = RefuseInCapture(); error != cudaSuccess) return error;
  if (event->queue) event->queue->RunUntil(event->position);
  return Broken();
}

cudaError_t cudaEventQuery(cudaEvent_t event) {
  if (event == nullptr) return Report(cudaErrorInvalidResourceHandle);
  if (const cudaError_t error = RefuseInCapture(); error != cudaSuccess) return error;
  if (!event->queue) return Broken();
  Queue& queue = *event->queue;
  if (queue.ran() < event->position) queue.RunUntil(queue.ran() + 1);
  if (Broken() != cudaSuccess) return Broken();
  return queue.ran() >= event->position ? cudaSuccess : cudaErrorNotReady;
}

cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start, cudaEvent_t end) {
  if (start == nullptr || end == nullptr || !start->queue || start->queue != end->queue)
    return Report(cudaErrorInvalidResourceHandle);
  if (end->queue->ran() < end->position) return cudaErrorNotReady;
  *milliseconds = static_cast<float>(end->position - start->position);
  return Broken();
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode) {
  if (stream == nullptr) return Report(cudaErrorStreamCaptureUnsupported);
  if (stream->captured) return Invalidate(stream);
  stream->captured = std::make_unique<CUgraph_st>();
  stream->invalidated = false;
  stream->mode = mode;
  return Broken();
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  *graph = nullptr;
  if (!IsCapturing(stream)) return Report(cudaErrorInvalidValue);
  const std::unique_ptr<CUgraph_st> captured = std::move(stream->captured);
  if (stream->invalidated) {
    stream->invalidated = false;
    return Report(cudaErrorStreamCaptureInvalidated);
  }
  *graph = new CUgraph_st{std::move(captured->work)};
  return Broken();
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
  *status = !IsCapturing(stream)  ? cudaStreamCaptureStatusNone
            : stream->invalidated ? cudaStreamCaptureStatusInvalidated
                                  : cudaStreamCaptureStatusActive;
  return Broken();
}

cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode* mode) {
  std::swap(*mode, thread_mode);
  return cudaSuccess;
}
