#include "recording.h"

#include "check.h"

namespace longhaul::cuda {

Graph::Graph(DevicePtr device, const std::function<void()>& body) : device_(std::move(device)) {
  cudaGraph_t captured = nullptr;
  // Only this thread's calls matter: other ranks may share the process.
  check(cudaStreamBeginCapture(device_->stream(), cudaStreamCaptureModeThreadLocal), "beginning to record a step");
  try {
    body();
  } catch (...) {
    cudaStreamEndCapture(device_->stream(), &captured);
    if (captured) cudaGraphDestroy(captured);
    throw;
  }
  check(cudaStreamEndCapture(device_->stream(), &captured), "recording a step");
  const cudaError_t status = cudaGraphInstantiate(&graph_, captured, 0);
  cudaGraphDestroy(captured);
  check(status, "preparing a recorded step");
}

Graph::~Graph() {
  cudaStreamSynchronize(device_->stream());
  if (graph_) cudaGraphExecDestroy(graph_);
}

void Graph::launch() const { check(cudaGraphLaunch(graph_, device_->stream()), "replaying a step"); }

}  // namespace longhaul::cuda
