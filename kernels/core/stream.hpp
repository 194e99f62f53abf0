#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <typeindex>
#include <unordered_map>

#include "kernels/core/memory.hpp"

namespace causeway {

/// An ordered queue of work on one device, and that device's memory. On the CPU work runs at once. Cheap to copy:
/// copies share both.
class Stream {
 public:
  /// A new stream on `device`. Throws where this build or machine has no such device.
  explicit Stream(Device device = Device::cpu);

  Device device() const { return memory_->device(); }
  MemoryPool& memory() const { return *memory_; }
  const std::shared_ptr<MemoryPool>& shared_memory() const { return memory_; }
  void* native() const { return native_.get(); }  ///< the cudaStream_t, or null on the CPU
  void wait() const;                              ///< until everything enqueued so far is done

  /// Another queue on the same device, with the same memory: what runs beside this one. Memory is allocated and freed
  /// in this one's order.
  Stream beside() const;
  /// Host memory and order: this stream on the CPU; for a GPU's, a CPU stream whose memory the GPU copies from and to
  /// by itself (page-locked).
  Stream host() const;

  /// `bytes` from `source` to `destination`, both reachable from this device (or one of them in host memory). Host
  /// memory takes part in the stream's order only if it is page-locked; from other host memory use upload().
  void copy(void* destination, const void* source, std::int64_t bytes) const;
  /// `bytes` of the host's `source`, which may change as soon as this returns, to `destination` on this device. Does
  /// not wait for the device.
  void upload(void* destination, const void* source, std::int64_t bytes) const;
  void zero(void* destination, std::int64_t bytes) const;

  /// The one T that goes with this stream and its copies, T() on the first call: a library's handle and its plans,
  /// which then live as long as the stream does. Only who enqueues on the stream may use it.
  template <class T>
  T& companion() const {
    const std::lock_guard lock(companions_->mutex);
    std::shared_ptr<void>& found = companions_->of_type[typeid(T)];
    if (found == nullptr) found = std::make_shared<T>();
    return *static_cast<T*>(found.get());
  }

 private:
  struct PageLocked;
  explicit Stream(std::shared_ptr<MemoryPool> memory) : memory_(std::move(memory)) {}

  struct Companions {
    std::mutex mutex;
    std::unordered_map<std::type_index, std::shared_ptr<void>> of_type;
  };
  std::shared_ptr<void> native_;
  std::shared_ptr<MemoryPool> memory_;
  std::shared_ptr<Companions> companions_ =
      std::make_shared<Companions>();  // the last member: gone before the stream it goes with
};

}  // namespace causeway
