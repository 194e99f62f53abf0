#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string_view>

namespace causeway {

enum class Device : std::uint8_t { cpu, cuda };

constexpr const char* name_of(Device device) { return device == Device::cpu ? "cpu" : "cuda"; }
/// The inverse of name_of. Throws Error(usage) for any other name.
Device parse_device(std::string_view name);

/// Memory of one device for one rank, handed out in blocks aligned to 256 bytes; a training step after the first asks
/// the system for nothing. On the CPU a returned block serves the next request of its size; live and cached bytes
/// together never exceed the largest live figure by more than the request at hand. `page_locked` host memory is what a
/// GPU copies from and to by itself; its blocks are powers of two and stay until the pool ends, since getting one, and
/// giving one back, waits for the GPU. On a GPU the blocks come from a CUDA memory pool of this object's own
/// (cudaMallocAsync), in the order of the stream it was made for, and stay with it until it ends. Thread-safe.
class MemoryPool {
 public:
  explicit MemoryPool(Device device, bool page_locked = false);
  /// Of a GPU, in the order of a cudaStream_t.
  explicit MemoryPool(std::shared_ptr<void> native_stream);
  ~MemoryPool();
  MemoryPool(const MemoryPool&) = delete;
  MemoryPool& operator=(const MemoryPool&) = delete;

  void* allocate(std::int64_t bytes);
  void release(void* block, std::int64_t bytes) noexcept;

  Device device() const { return device_; }
  std::int64_t live_bytes() const;
  std::int64_t cached_bytes() const;  ///< held for later requests
  std::int64_t peak_bytes() const;    ///< high-water mark of live bytes since the last reset
  void reset_peak();

 private:
  std::int64_t block_size(std::int64_t bytes) const;
  void* from_system(std::int64_t bytes);
  void to_system(void* block, std::int64_t bytes) noexcept;
  void drop_cache() noexcept;

  Device device_;
  bool page_locked_ = false;
  std::shared_ptr<void> stream_;     // the cudaStream_t in whose order GPU blocks come and go
  std::shared_ptr<void> cuda_pool_;  // the cudaMemPool_t
  mutable std::mutex mutex_;
  std::multimap<std::int64_t, void*> cached_;
  std::int64_t cached_bytes_ = 0;
  std::int64_t live_bytes_ = 0;
  std::int64_t peak_bytes_ = 0;
};

}  // namespace causeway
