#include "kernels/core/gpu.hpp"

#include <memory>
#include <utility>

#include "kernels/core/error.hpp"

#if CAUSEWAY_CUDA
#include "kernels/cuda/device/check.cuh"
#endif

namespace causeway {

int visible_gpus() {
  int count = 0;
#if CAUSEWAY_CUDA
  if (cudaGetDeviceCount(&count) != cudaSuccess) {
    cudaGetLastError();  // clears the error, which a later call would report as its own
    count = 0;
  }
#endif
  return count;
}

void use_gpu(int ordinal) {
  require(ordinal >= 0 && ordinal < visible_gpus(), "GPU {} is requested, but {} are visible, counted from 0", ordinal,
          visible_gpus());
#if CAUSEWAY_CUDA
  cuda_check(cudaSetDevice(ordinal));
#endif
}

std::string gpu_address() {
  std::string address;
#if CAUSEWAY_CUDA
  int device = 0;
  char text[32] = {};
  cuda_check(cudaGetDevice(&device));
  cuda_check(cudaDeviceGetPCIBusId(text, sizeof text, device));
  address = text;
#endif
  return address;
}

void call_on_host(const Stream& stream, std::function<void()> work) {
#if CAUSEWAY_CUDA
  if (stream.device() == Device::cuda) {
    auto owned = std::make_unique<std::function<void()>>(std::move(work));
    const auto run = [](void* given) noexcept {
      const std::unique_ptr<std::function<void()>> mine(static_cast<std::function<void()>*>(given));
      (*mine)();
    };
    cuda_check(cudaLaunchHostFunc(native_of(stream), run, owned.get()));
    static_cast<void>(owned.release());
    return;
  }
#else
  static_cast<void>(stream);
#endif
  work();
}

}  // namespace causeway
