#pragma once

#include <cstdint>
#include <memory>

#include "kernels/memory.hpp"

namespace causeway {

/// An ordered queue of work on one device, and that device's memory. On the CPU work runs at once. Cheap to copy: copies share both.
class Stream {
 public:
  /// A new stream on `device`. Throws where this build or machine has no such device.
  explicit Stream(Device device = Device::cpu);

  Device device() const { return memory_->device(); }
  MemoryPool& memory() const { return *memory_; }
  const std::shared_ptr<MemoryPool>& shared_memory() const { return memory_; }
  void* native() const { return native_.get(); }  ///< the cudaStream_t, or null on the CPU
  void wait() const;                               ///< until everything enqueued so far is done

  /// `bytes` from `source` to `destination`, both reachable from this device (or one of them in host memory).
  void copy(void* destination, const void* source, std::int64_t bytes) const;
  void zero(void* destination, std::int64_t bytes) const;

 private:
  std::shared_ptr<MemoryPool> memory_;
  std::shared_ptr<void> native_;
};

}  // namespace causeway
