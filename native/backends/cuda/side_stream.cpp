#include "side_stream.h"

#include "check.h"

namespace longhaul::cuda {

SideStream::SideStream(DevicePtr device) : device_(std::move(device)) {
  device_->use();
  int least = 0, greatest = 0;
  check(cudaDeviceGetStreamPriorityRange(&least, &greatest), "reading the GPU's stream priorities");
  // A collective needs few multiprocessors, and needs them before attention has taken them all.
  check(cudaStreamCreateWithPriority(&stream_, cudaStreamNonBlocking, greatest), "making a stream");
  for (cudaEvent_t* event : {&reached_, &here_})
    check(cudaEventCreateWithFlags(event, cudaEventDisableTiming), "making an event");
}

SideStream::~SideStream() {
  for (const cudaEvent_t event : {reached_, here_})
    if (event) cudaEventDestroy(event);
  if (stream_) cudaStreamDestroy(stream_);  // does not wait: a collective whose peer died never ends
}

void* SideStream::handle() {
  device_->use();
  return stream_;
}

void SideStream::follow() {
  device_->use();
  check(cudaEventRecord(reached_, device_->stream()), "marking the work enqueued so far");
  check(cudaStreamWaitEvent(stream_, reached_, 0), "ordering a collective behind the work enqueued so far");
}

void SideStream::precede() {
  device_->use();
  check(cudaEventRecord(here_, stream_), "marking the collectives so far");
  check(cudaStreamWaitEvent(device_->stream(), here_, 0), "ordering work behind a collective");
}

bool SideStream::done() {
  device_->use();
  const cudaError_t status = cudaStreamQuery(stream_);
  if (status == cudaErrorNotReady) return false;
  check(status, "a collective");
  return true;
}

}  // namespace longhaul::cuda
