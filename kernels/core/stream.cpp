#include "kernels/core/stream.hpp"

#include <cstring>
#include <deque>
#include <utility>

#include "kernels/core/error.hpp"
#include "kernels/core/event.hpp"
#include "kernels/core/tensor.hpp"

#if CAUSEWAY_CUDA
#include "kernels/cuda/device/check.cuh"
#endif

namespace causeway {
namespace {

#if CAUSEWAY_CUDA
std::shared_ptr<void> new_cuda_stream(bool goes_first) {
  int last = 0, first = 0;
  cuda_check(cudaDeviceGetStreamPriorityRange(&last, &first));
  cudaStream_t created = nullptr;
  cuda_check(cudaStreamCreateWithPriority(&created, cudaStreamNonBlocking, goes_first ? first : last));
  return {created, [](void* stream) { cudaStreamDestroy(static_cast<cudaStream_t>(stream)); }};
}
#endif

/// What is on its way to a GPU, oldest first, each with the event that says it has arrived.
struct Uploads {
  std::deque<std::pair<Event, Tensor>> staged;
};

}  // namespace

struct Stream::PageLocked {
  Stream stream{std::make_shared<MemoryPool>(Device::cpu, true)};
};

Stream::Stream(Device device) {
  if (device == Device::cpu) {
    memory_ = std::make_shared<MemoryPool>(device);
    return;
  }
#if CAUSEWAY_CUDA
  int devices = 0;
  require(cudaGetDeviceCount(&devices) == cudaSuccess && devices > 0,
          "device is cuda, but no GPU answers on this machine");
  native_ = new_cuda_stream(false);
  memory_ = std::make_shared<MemoryPool>(native_);
#else
  fail(ExitCode::usage, "device is cuda, but this build has no CUDA; expected cpu");
#endif
}

Stream Stream::beside() const {
  Stream other(memory_);
#if CAUSEWAY_CUDA
  // It goes first where both have work to start: what runs beside is short, and somebody waits for it.
  if (device() == Device::cuda) other.native_ = new_cuda_stream(true);
#endif
  return other;
}

Stream Stream::host() const { return device() == Device::cpu ? *this : companion<PageLocked>().stream; }

void Stream::wait() const {
  if (device() == Device::cuda) Event(*this).wait();
}

void Stream::copy(void* destination, const void* source, std::int64_t bytes) const {
  if (bytes <= 0) return;
#if CAUSEWAY_CUDA
  if (device() == Device::cuda)
    return cuda_check(
        cudaMemcpyAsync(destination, source, static_cast<std::size_t>(bytes), cudaMemcpyDefault, native_of(*this)));
#endif
  std::memmove(destination, source, static_cast<std::size_t>(bytes));
}

void Stream::upload(void* destination, const void* source, std::int64_t bytes) const {
  if (bytes <= 0) return;
  if (device() == Device::cpu) return copy(destination, source, bytes);
  auto& staged = companion<Uploads>().staged;
  while (!staged.empty() && staged.front().first.reached()) staged.pop_front();
  Tensor stage(host(), DType::u8, {bytes});
  std::memcpy(stage.view().data, source, static_cast<std::size_t>(bytes));
  copy(destination, stage.view().data, bytes);
  staged.emplace_back(Event(*this), std::move(stage));
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
