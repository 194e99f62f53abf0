#include "kernels/core/event.hpp"

#include <chrono>

#if CAUSEWAY_CUDA
#include "kernels/cuda/device/check.cuh"
#endif

namespace causeway {
namespace {

/// A stream's resource: what check_while_waiting() has set.
struct WaitCheck {
  std::shared_ptr<const std::function<void()>> check;
};

double now_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

#if CAUSEWAY_CUDA
cudaEvent_t native_of(const std::shared_ptr<void>& event) { return static_cast<cudaEvent_t>(event.get()); }
#endif

}  // namespace

Event::Event(const Stream& stream, [[maybe_unused]] bool timed) : host_seconds_(now_seconds()) {
#if CAUSEWAY_CUDA
  if (stream.device() == Device::cpu) return;
  cudaEvent_t created = nullptr;
  cuda_check(cudaEventCreateWithFlags(&created, timed ? cudaEventDefault : cudaEventDisableTiming));
  native_ = std::shared_ptr<void>(created, [](void* event) { cudaEventDestroy(static_cast<cudaEvent_t>(event)); });
  cuda_check(cudaEventRecord(created, causeway::native_of(stream)));
  check_ = stream.resource<WaitCheck>().check;
#else
  static_cast<void>(stream);
#endif
}

bool Event::reached() const {
#if CAUSEWAY_CUDA
  if (native_ != nullptr) {
    const cudaError_t state = cudaEventQuery(native_of(native_));
    if (state == cudaErrorNotReady) return false;
    cuda_check(state);
  }
#endif
  return true;
}

void Event::wait() const {
#if CAUSEWAY_CUDA
  if (native_ == nullptr) return;
  if (check_ == nullptr) return cuda_check(cudaEventSynchronize(native_of(native_)));
  constexpr std::chrono::microseconds interval{200};
  auto last_check = std::chrono::steady_clock::now();
  while (!reached()) {
    if (std::chrono::steady_clock::now() - last_check < interval) continue;
    (*check_)();
    last_check = std::chrono::steady_clock::now();
  }
#endif
}

void Event::block([[maybe_unused]] const Stream& stream) const {
#if CAUSEWAY_CUDA
  if (native_ == nullptr) return;
  if (stream.device() == Device::cpu) return wait();
  cuda_check(cudaStreamWaitEvent(causeway::native_of(stream), native_of(native_)));
#endif
}

void check_while_waiting(const Stream& stream, std::function<void()> check) {
  stream.resource<WaitCheck>().check =
      check ? std::make_shared<const std::function<void()>>(std::move(check)) : nullptr;
}

double Event::seconds_since(const Event& before) const {
#if CAUSEWAY_CUDA
  if (native_ != nullptr && before.native_ != nullptr) {
    float milliseconds = 0;
    cuda_check(cudaEventElapsedTime(&milliseconds, native_of(before.native_), native_of(native_)));
    return milliseconds * 1e-3;
  }
#endif
  return host_seconds_ - before.host_seconds_;
}

}  // namespace causeway
