// Recording as the capture of the stream: what the calls launch goes into a graph.
#include <memory>

#include "cuda_backend.h"
#include "staging_ring.h"

namespace internvl::cuda {
namespace {

struct DestroyGraph {
  void operator()(cudaGraph_t graph) const { cudaGraphDestroy(graph); }
};

class RecordedGraph final : public RecordedWork {
 public:
  /// `uploads`: what the graph's copies read at each launch.
  RecordedGraph(cudaGraph_t graph, CapturedUploads uploads, cudaStream_t stream)
      : stream_(stream), uploads_(std::move(uploads)) {
    Check(cudaGraphInstantiate(&executable_, graph, 0), "cudaGraphInstantiate");
  }
  ~RecordedGraph() override {
    cudaStreamSynchronize(stream_);  // a launch may be reading the uploads
    cudaGraphExecDestroy(executable_);
  }
  RecordedGraph(const RecordedGraph&) = delete;
  RecordedGraph& operator=(const RecordedGraph&) = delete;

  void Launch() override { Check(cudaGraphLaunch(executable_, stream_), "cudaGraphLaunch"); }

 private:
  const cudaStream_t stream_;
  CapturedUploads uploads_;
  cudaGraphExec_t executable_ = nullptr;
};

}  // namespace

void CudaBackend::BeginRecording() {
  // What an earlier recording left that failed.
  staging_->TakeCaptured();
  // Of this thread: what the threads of other devices do meanwhile is no mistake.
  Check(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal), "cudaStreamBeginCapture");
}

std::unique_ptr<RecordedWork> CudaBackend::EndRecording() {
  cudaGraph_t graph = nullptr;
  const cudaError_t code = cudaStreamEndCapture(stream_, &graph);
  const std::unique_ptr<std::remove_pointer_t<cudaGraph_t>, DestroyGraph> owned(graph);
  CapturedUploads uploads = staging_->TakeCaptured();
  if (code != cudaSuccess) cudaGetLastError();  // said here: it must not turn up after the next launch
  Check(code, "cudaStreamEndCapture");
  return std::make_unique<RecordedGraph>(graph, std::move(uploads), stream_);
}

}  // namespace internvl::cuda
