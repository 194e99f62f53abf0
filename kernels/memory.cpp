#include "kernels/memory.hpp"

#include <algorithm>
#include <cstdlib>

#include "kernels/error.hpp"

#ifdef __linux__
#include <malloc.h>
#include <sys/mman.h>
#endif

#if CAUSEWAY_CUDA
#include <cuda_runtime.h>
#endif

namespace causeway {
namespace {

constexpr std::int64_t granularity = 256;
std::int64_t rounded(std::int64_t bytes) { return (bytes + granularity - 1) / granularity * granularity; }

/// Host memory; large blocks on huge pages where Linux has them to give: a kernel that takes a tile of channels down
/// the tokens touches a page a row, and with 4 KiB pages waits for their translation longer than for their bytes.
void* host_block(std::int64_t bytes) {
  constexpr std::int64_t huge_page = 2 << 20, large = 8 * huge_page;  // bytes
  void* block = nullptr;
#ifdef M_MMAP_THRESHOLD
  // What is freed shall go back to the system. glibc gives back at once what it has mapped by itself, but maps less and
  // less: up to 32 MiB, by default, it moves the size from which it does to that of the largest such block freed.
  constexpr int mapped = 1 << 20;  // bytes
  if (bytes >= mapped) mallopt(M_MMAP_THRESHOLD, mapped);
#endif
  if (posix_memalign(&block, static_cast<std::size_t>(bytes < large ? granularity : huge_page),
                     static_cast<std::size_t>(bytes)) != 0)
    return nullptr;
#ifdef MADV_HUGEPAGE
  // Advice: where it is refused, small pages serve as well. Whole huge pages only, so that a block takes no more
  // memory.
  if (bytes >= large) madvise(block, static_cast<std::size_t>(bytes / huge_page * huge_page), MADV_HUGEPAGE);
#endif
  return block;
}

}  // namespace

MemoryPool::~MemoryPool() { drop_cache(); }

void* MemoryPool::allocate(std::int64_t bytes) {
  if (bytes <= 0) return nullptr;
  bytes = rounded(bytes);
  const std::lock_guard lock(mutex_);
  void* block = nullptr;
  if (const auto found = cached_.find(bytes); found != cached_.end()) {
    block = found->second;
    cached_.erase(found);
    cached_bytes_ -= bytes;
  } else {
    if (live_bytes_ + cached_bytes_ + bytes > peak_bytes_) drop_cache();
    block = from_system(bytes);
  }
  live_bytes_ += bytes;
  peak_bytes_ = std::max(peak_bytes_, live_bytes_);
  return block;
}

void MemoryPool::release(void* block, std::int64_t bytes) noexcept {
  if (block == nullptr) return;
  bytes = rounded(bytes);
  const std::lock_guard lock(mutex_);
  cached_.emplace(bytes, block);
  cached_bytes_ += bytes;
  live_bytes_ -= bytes;
}

std::int64_t MemoryPool::live_bytes() const {
  const std::lock_guard lock(mutex_);
  return live_bytes_;
}

std::int64_t MemoryPool::cached_bytes() const {
  const std::lock_guard lock(mutex_);
  return cached_bytes_;
}

std::int64_t MemoryPool::peak_bytes() const {
  const std::lock_guard lock(mutex_);
  return peak_bytes_;
}

void MemoryPool::reset_peak() {
  const std::lock_guard lock(mutex_);
  peak_bytes_ = live_bytes_;
}

void MemoryPool::drop_cache() noexcept {
  for (const auto& [bytes, block] : cached_) to_system(block);
  cached_.clear();
  cached_bytes_ = 0;
}

void* MemoryPool::from_system(std::int64_t bytes) {
  void* block = nullptr;
  if (device_ == Device::cpu) {
    block = host_block(bytes);
  } else {
#if CAUSEWAY_CUDA
    if (cudaMalloc(&block, static_cast<std::size_t>(bytes)) != cudaSuccess) block = nullptr;
#endif
  }
  ensure(block != nullptr, "out of {} memory: {} bytes wanted beside {} in use", name_of(device_), bytes, live_bytes_);
  return block;
}

void MemoryPool::to_system(void* block) noexcept {
  if (device_ == Device::cpu) {
    std::free(block);
  } else {
#if CAUSEWAY_CUDA
    cudaFree(block);
#endif
  }
}

}  // namespace causeway
