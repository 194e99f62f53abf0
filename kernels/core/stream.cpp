#include "kernels/core/stream.hpp"

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <deque>
#include <utility>

#include "kernels/core/dry_run/dry_run.hpp"
#include "kernels/core/error.hpp"
#include "kernels/core/event.hpp"
#include "kernels/core/tensor.hpp"
#include "kernels/core/trace.hpp"

#if CAUSEWAY_CUDA
#include "kernels/cuda/device/check.cuh"
#endif

namespace causeway {
namespace {

#if CAUSEWAY_CUDA
/// The lowest priority is left for work in the background of a stream (kernels/cuda/pointwise/adamw.cu).
std::shared_ptr<void> new_cuda_stream(bool high_priority) {
  int lowest = 0, highest = 0;  // smaller numbers are higher priorities
  cuda_check(cudaDeviceGetStreamPriorityRange(&lowest, &highest));
  const int priority = high_priority ? highest : std::max(highest, lowest - 1);
  cudaStream_t created = nullptr;
  cuda_check(cudaStreamCreateWithPriority(&created, cudaStreamNonBlocking, priority));
  return {created, [](void* stream) { cudaStreamDestroy(static_cast<cudaStream_t>(stream)); }};
}
#endif

/// A stream's resource: the host copies of uploads in flight, oldest first, each with the event after which it is free.
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
          "device is cuda, but this machine has no usable GPU");
  native_ = new_cuda_stream(false);
  memory_ = std::make_shared<MemoryPool>(native_);
#else
  fail(ExitCode::usage, "device is cuda, but this build has no CUDA; expected cpu");
#endif
}

Stream Stream::side_stream() const {
  Stream side(memory_);
#if CAUSEWAY_CUDA
  // High priority: work on a side stream (messages) is short, and other work waits for it.
  if (device() == Device::cuda) side.native_ = new_cuda_stream(true);
#endif
  return side;
}

Stream Stream::host() const { return device() == Device::cpu ? *this : resource<PageLocked>().stream; }

void Stream::wait() const {
  if (device() == Device::cuda) Event(*this).wait();
}

void Stream::copy(void* destination, const void* source, std::int64_t bytes) const {
  if (bytes <= 0) return;
  const TracedScope traced(*this, "copy", "operator");
#if CAUSEWAY_CUDA
  if (device() == Device::cuda)
    return cuda_check(
        cudaMemcpyAsync(destination, source, static_cast<std::size_t>(bytes), cudaMemcpyDefault, native_of(*this)));
#endif
  if (!is_dry_run(*this)) std::memmove(destination, source, static_cast<std::size_t>(bytes));
}

void Stream::upload(void* destination, const void* source, std::int64_t bytes) const {
  if (bytes <= 0) return;
  if (device() == Device::cpu) return copy(destination, source, bytes);
  auto& staged = resource<Uploads>().staged;
  while (!staged.empty() && staged.front().first.reached()) staged.pop_front();
  Tensor stage(host(), DType::u8, {bytes});
  std::memcpy(stage.view().data, source, static_cast<std::size_t>(bytes));
  copy(destination, stage.view().data, bytes);
  staged.emplace_back(Event(*this), std::move(stage));
}

void Stream::zero(void* destination, std::int64_t bytes) const {
  if (bytes <= 0) return;
  const TracedScope traced(*this, "zero", "operator");
#if CAUSEWAY_CUDA
  if (device() == Device::cuda)
    return cuda_check(cudaMemsetAsync(destination, 0, static_cast<std::size_t>(bytes), native_of(*this)));
#endif
  if (is_dry_run(*this)) return;
  // One thread writes about 10 GB/s, and offloaded optimizer state has tens of GB.
  constexpr std::int64_t at_once = 16 << 20;
  auto* const first = static_cast<std::byte*>(destination);
#pragma omp parallel for schedule(static) if (bytes > 4 * at_once)
  for (std::int64_t begin = 0; begin < bytes; begin += at_once)
    std::memset(first + begin, 0, static_cast<std::size_t>(std::min(at_once, bytes - begin)));
}

}  // namespace causeway
