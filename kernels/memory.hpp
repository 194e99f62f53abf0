#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>

namespace causeway {

enum class Device : std::uint8_t { cpu, cuda };

constexpr const char* name_of(Device device) { return device == Device::cpu ? "cpu" : "cuda"; }

/// Memory of one device for one rank: hands out 64-byte aligned blocks and keeps returned ones for the next request of the same size,
/// so that a training step after the first allocates nothing. Live and cached bytes together never exceed the largest live figure
/// by more than the request at hand. Thread-safe.
class MemoryPool {
 public:
  explicit MemoryPool(Device device) : device_(device) {}
  ~MemoryPool();
  MemoryPool(const MemoryPool&) = delete;
  MemoryPool& operator=(const MemoryPool&) = delete;

  void* allocate(std::int64_t bytes);
  void release(void* block, std::int64_t bytes) noexcept;

  Device device() const { return device_; }
  std::int64_t live_bytes() const;
  std::int64_t cached_bytes() const;
  std::int64_t peak_bytes() const;  ///< high-water mark of live bytes since the last reset
  void reset_peak();

 private:
  void* from_system(std::int64_t bytes);
  void to_system(void* block) noexcept;
  void drop_cache() noexcept;

  Device device_;
  mutable std::mutex mutex_;
  std::multimap<std::int64_t, void*> cached_;
  std::int64_t cached_bytes_ = 0;
  std::int64_t live_bytes_ = 0;
  std::int64_t peak_bytes_ = 0;
};

}  // namespace causeway
