#include "kernels/stream.hpp"

#include <cstring>

#include "kernels/error.hpp"

#if CAUSEWAY_CUDA
#include "kernels/cuda/check.cuh"
#endif

namespace causeway {

Stream::Stream(Device device) : memory_(std::make_shared<MemoryPool>(device)) {
  if (device == Device::cpu) return;
#if CAUSEWAY_CUDA
  int devices = 0;
  require(cudaGetDeviceCount(&devices) == cudaSuccess && devices > 0, "device is cuda, but no GPU answers on this machine");
  cudaStream_t created = nullptr;
  cuda_check(cudaStreamCreateWithFlags(&created, cudaStreamNonBlocking));
  native_ = std::shared_ptr<void>(created, [](void* stream) { cudaStreamDestroy(static_cast<cudaStream_t>(stream)); });
#else
  fail(ExitCode::usage, "device is cuda, but this build has no CUDA; expected cpu");
#endif
}

void Stream::wait() const {
#if CAUSEWAY_CUDA
  if (device() == Device::cuda) cuda_check(cudaStreamSynchronize(native_of(*this)));
#endif
}

void Stream::copy(void* destination, const void* source, std::int64_t bytes) const {
  if (bytes <= 0) return;
#if CAUSEWAY_CUDA
  if (device() == Device::cuda)
    return cuda_check(cudaMemcpyAsync(destination, source, static_cast<std::size_t>(bytes), cudaMemcpyDefault, native_of(*this)));
#endif
  std::memmove(destination, source, static_cast<std::size_t>(bytes));
}

void Stream::zero(void* destination, std::int64_t bytes) const {
  if (bytes <= 0) return;
#if CAUSEWAY_CUDA
  if (device() == Device::cuda)
    return cuda_check(cudaMemsetAsync(destination, 0, static_cast<std::size_t>(bytes), native_of(*this)));
#endif
  std::memset(destination, 0, static_cast<std::size_t>(bytes));
}

}  // namespace causeway
