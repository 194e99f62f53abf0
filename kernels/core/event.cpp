#include "kernels/core/event.hpp"

#include <chrono>

#if CAUSEWAY_CUDA
#include "kernels/cuda/device/check.cuh"
#endif

namespace causeway {
namespace {

struct Watch {
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
  watch_ = stream.companion<Watch>().check;
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
  if (watch_ == nullptr) return cuda_check(cudaEventSynchronize(native_of(native_)));
  constexpr std::chrono::microseconds patience{200};
  auto asked = std::chrono::steady_clock::now();
  while (!reached()) {
    if (std::chrono::steady_clock::now() - asked < patience) continue;
    (*watch_)();
    asked = std::chrono::steady_clock::now();
  }
#endif
}

void Event::hold([[maybe_unused]] const Stream& stream) const {
#if CAUSEWAY_CUDA
  if (native_ == nullptr) return;
  if (stream.device() == Device::cpu) return wait();
  cuda_check(cudaStreamWaitEvent(causeway::native_of(stream), native_of(native_)));
#endif
}

void watch(const Stream& stream, std::function<void()> check) {
  stream.companion<Watch>().check = check ? std::make_shared<const std::function<void()>>(std::move(check)) : nullptr;
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
