// Instantiated graphs: the captured work, with the arguments and addresses of the capture, run in order.
#include <memory>

#include "device.h"
#include "streams.h"

struct CUgraphExec_st {
  std::shared_ptr<const std::vector<cuda_on_host::Work>> work;
};

using namespace cuda_on_host;

cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph, unsigned long long) {
  *executable = nullptr;
  if (graph == nullptr) return Report(cudaErrorInvalidValue);
  *executable = new CUgraphExec_st{std::make_shared<const std::vector<Work>>(graph->work)};
  return Broken();
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) {
  if (executable == nullptr) return Report(cudaErrorInvalidValue);
  if (IsCapturing(stream)) return Report(cudaErrorStreamCaptureUnsupported);
  return Enqueue(stream, [work = executable->work] {
    for (const Work& item : *work) {
      if (Broken() == cudaSuccess) item();
    }
  });
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return Broken();
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  delete executable;
  return Broken();
}
