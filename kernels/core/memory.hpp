#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string_view>

namespace causeway {

enum class Device : std::uint8_t { cpu, cuda };

constexpr const char* name_of(Device device) { return device == Device::cpu ? "cpu" : "cuda"; }
/// The inverse of name_of. Throws Error(usage) for any other name.
Device parse_device(std::string_view name);

/// Caches the memory of one device for one rank: after its first step, training requests no memory from the system.
/// Blocks are aligned to 256 bytes. Thread-safe.
/// - CPU: a released block serves the next request of the same size. Live plus cached bytes never exceed the peak of
///   the live bytes by more than the current request: a rank takes what is
///   reported as its peak.
/// - CPU, `page_locked`: memory that a GPU can copy from and to asynchronously. Block sizes are powers of two. The pool
///   keeps its blocks until it is destroyed, because to allocate or free one waits for the GPU.
/// - GPU: blocks come from a CUDA memory pool that this object owns (cudaMallocFromPoolAsync), in the order of the
///   stream that it was made for. The CUDA pool keeps them until it is destroyed.
class MemoryPool {
 public:
  explicit MemoryPool(Device device, bool page_locked = false);
  /// A pool of GPU memory, in the order of a cudaStream_t.
  explicit MemoryPool(std::shared_ptr<void> native_stream);
  ~MemoryPool();
  MemoryPool(const MemoryPool&) = delete;
  MemoryPool& operator=(const MemoryPool&) = delete;

  /// Null for 0 bytes. Throws Error(internal) if the system does not have enough memory.
  void* allocate(std::int64_t bytes);
  /// `bytes` as they were requested.
  void release(void* block, std::int64_t bytes) noexcept;

  Device device() const { return device_; }
  std::int64_t live_bytes() const;    ///< allocated and not yet released
  std::int64_t cached_bytes() const;  ///< kept for later requests
  std::int64_t peak_bytes() const;    ///< maximum of the live bytes since the last reset
  void reset_peak();
  /// What the GPU has free, with this pool's cached blocks. No value for host memory.
  std::optional<std::int64_t> free_device_bytes() const;

 private:
  std::int64_t block_size(std::int64_t bytes) const;
  void* from_system(std::int64_t bytes);
  void to_system(void* block, std::int64_t bytes) noexcept;
  void drop_cache() noexcept;

  Device device_;
  bool page_locked_ = false;
  std::shared_ptr<void> stream_;     // the cudaStream_t in whose order GPU blocks are allocated and freed
  std::shared_ptr<void> cuda_pool_;  // the cudaMemPool_t
  mutable std::mutex mutex_;
  std::multimap<std::int64_t, void*> cached_;
  std::int64_t cached_bytes_ = 0;
  std::int64_t live_bytes_ = 0;
  std::int64_t peak_bytes_ = 0;
};

}  // namespace causeway
