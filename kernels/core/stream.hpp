#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <typeindex>
#include <unordered_map>

#include "kernels/core/memory.hpp"

namespace causeway {

class Trace;

/// An ordered queue of work on one device, together with a memory pool of that device. On the CPU work runs at once, in
/// the caller. Copies are cheap and share the queue and the pool.
class Stream {
 public:
  /// A new stream on `device`. Throws Error(usage) if this build or machine has no such device.
  explicit Stream(Device device = Device::cpu);

  Device device() const { return memory_->device(); }
  MemoryPool& memory() const { return *memory_; }
  const std::shared_ptr<MemoryPool>& shared_memory() const { return memory_; }
  void* native() const { return native_.get(); }  ///< the cudaStream_t, or null on the CPU
  void wait() const;                              ///< the host waits until all work enqueued so far is done

  /// A second queue on the same device, with the same memory pool: its work runs concurrently with this one's, at a
  /// higher priority. Memory is allocated and freed in the order of this queue.
  Stream side_stream() const;
  /// A CPU stream for data that this stream exchanges with the host: for a CPU stream this stream itself; for a GPU
  /// stream one whose memory is page-locked, so that the GPU copies from and to it asynchronously.
  Stream host() const;

  /// Enqueues a copy of `bytes` from `source` to `destination`. Each is memory that this device can address, or
  /// page-locked host memory. Other host memory does not take part in the stream's order: use upload() for it.
  void copy(void* destination, const void* source, std::int64_t bytes) const;
  /// Enqueues a copy of `bytes` from host memory to `destination` on this device. `source` may change as soon as this
  /// returns. Does not wait for the device.
  void upload(void* destination, const void* source, std::int64_t bytes) const;
  /// Enqueues zeroing `bytes` of `destination`.
  void zero(void* destination, std::int64_t bytes) const;

  /// From now on the work of kernels, copy() and zero() on this stream and on copies of this object is recorded in
  /// `trace`, which must live until it is replaced. Null: not recorded, as at first. By the thread that enqueues.
  void trace_in(Trace* trace) const { resources_->trace = trace; }
  Trace* trace() const { return resources_->trace; }

  /// The T that this stream and its copies share, made by T() on the first call: for example a cuBLASLt handle and its
  /// plans. It lives as long as the stream. Only the thread that enqueues on the stream may use it.
  template <class T>
  T& resource() const {
    const std::lock_guard lock(resources_->mutex);
    std::shared_ptr<void>& found = resources_->of_type[typeid(T)];
    if (found == nullptr) found = std::make_shared<T>();
    return *static_cast<T*>(found.get());
  }

 private:
  struct PageLocked;
  explicit Stream(std::shared_ptr<MemoryPool> memory) : memory_(std::move(memory)) {}

  struct Resources {
    std::mutex mutex;
    std::unordered_map<std::type_index, std::shared_ptr<void>> of_type;
    Trace* trace = nullptr;
  };
  std::shared_ptr<void> native_;
  std::shared_ptr<MemoryPool> memory_;
  std::shared_ptr<Resources> resources_ =
      std::make_shared<Resources>();  // the last member: destroyed before the queue that it uses
};

}  // namespace causeway
