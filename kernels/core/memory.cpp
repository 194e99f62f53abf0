#include "kernels/core/memory.hpp"

#include <algorithm>
#include <bit>
#include <cstddef>

#include "kernels/core/error.hpp"
#include "kernels/core/host_memory.hpp"
#include "kernels/core/integer.hpp"

#if CAUSEWAY_CUDA
#include "kernels/cuda/device/check.cuh"
#endif

namespace causeway {
namespace {

constexpr std::int64_t granularity = 256;

#if CAUSEWAY_CUDA
/// Page-locked memory. cudaMallocHost makes a block's pages of 4 KiB one after the other, in one thread. So large
/// blocks are on huge pages, which all threads make, and are locked afterwards.
constexpr std::int64_t large_locked_block = 64 << 20;
void* locked_block(std::int64_t bytes) {
  constexpr std::int64_t page = 2 << 20;
  void* block = nullptr;
  if (bytes >= large_locked_block && (block = host_block(bytes)) != nullptr) {
    auto* const first = static_cast<volatile std::byte*>(block);
#pragma omp parallel for schedule(static)
    for (std::int64_t at = 0; at < bytes; at += page) first[at] = std::byte{0};
    if (cudaHostRegister(block, static_cast<std::size_t>(bytes), cudaHostRegisterDefault) == cudaSuccess) return block;
    cudaGetLastError();
    free_host_block(block, bytes);
  }
  return cudaMallocHost(&block, static_cast<std::size_t>(bytes)) == cudaSuccess ? block : nullptr;
}
void free_locked_block(void* block, std::int64_t bytes) noexcept {
  if (bytes >= large_locked_block && cudaHostUnregister(block) == cudaSuccess) return free_host_block(block, bytes);
  cudaGetLastError();
  cudaFreeHost(block);
}

cudaStream_t stream_of(const std::shared_ptr<void>& stream) { return static_cast<cudaStream_t>(stream.get()); }
cudaMemPool_t pool_of(const std::shared_ptr<void>& pool) { return static_cast<cudaMemPool_t>(pool.get()); }

std::shared_ptr<void> make_cuda_pool() {
  cudaMemPoolProps properties{};
  properties.allocType =
      cudaMemAllocationTypePinned;  // "pinned" here means memory that does not move; it is device memory
  properties.location.type = cudaMemLocationTypeDevice;
  cuda_check(cudaGetDevice(&properties.location.id));
  cudaMemPool_t pool = nullptr;
  cuda_check(cudaMemPoolCreate(&pool, &properties));
  const std::shared_ptr<void> owner(pool,
                                    [](void* created) { cudaMemPoolDestroy(static_cast<cudaMemPool_t>(created)); });
  std::uint64_t keep = ~std::uint64_t{0};  // the pool keeps all memory that it ever got
  cuda_check(cudaMemPoolSetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &keep));
  return owner;
}
#endif

}  // namespace

Device parse_device(std::string_view name) {
  for (const Device device : {Device::cpu, Device::cuda})
    if (name == name_of(device)) return device;
  fail(ExitCode::usage, "device is '{}', expected cpu or cuda", name);
}

MemoryPool::MemoryPool(Device device, bool page_locked) : device_(device), page_locked_(page_locked) {
  ensure(device == Device::cpu, "a memory pool on device {} without a stream", name_of(device));
}

#if CAUSEWAY_CUDA
MemoryPool::MemoryPool(std::shared_ptr<void> native_stream)
    : device_(Device::cuda), stream_(std::move(native_stream)), cuda_pool_(make_cuda_pool()) {}
#endif

MemoryPool::~MemoryPool() { drop_cache(); }

std::int64_t MemoryPool::block_size(std::int64_t bytes) const {
  const std::int64_t size = round_up(bytes, granularity);
  if (!page_locked_) return size;
  // Powers of two serve many sizes; of large blocks they would waste too much.
  constexpr std::int64_t large = 64 << 20, step = 16 << 20;
  return size > large ? round_up(size, step)
                      : static_cast<std::int64_t>(std::bit_ceil(static_cast<std::uint64_t>(size)));
}

void* MemoryPool::allocate(std::int64_t bytes) {
  if (bytes <= 0) return nullptr;
  bytes = block_size(bytes);
  const std::lock_guard lock(mutex_);
  void* block = nullptr;
  if (const auto found = cached_.find(bytes); found != cached_.end()) {
    block = found->second;
    cached_.erase(found);
    cached_bytes_ -= bytes;
  } else {
    if (!page_locked_ && live_bytes_ + cached_bytes_ + bytes > peak_bytes_) drop_cache();
    block = from_system(bytes);
  }
  live_bytes_ += bytes;
  peak_bytes_ = std::max(peak_bytes_, live_bytes_);
  return block;
}

void MemoryPool::release(void* block, std::int64_t bytes) noexcept {
  if (block == nullptr) return;
  bytes = block_size(bytes);
  const std::lock_guard lock(mutex_);
  live_bytes_ -= bytes;
  if (device_ == Device::cuda) return to_system(block, bytes);  // CUDA's own pool keeps the block
  cached_.emplace(bytes, block);
  cached_bytes_ += bytes;
}

std::int64_t MemoryPool::live_bytes() const {
  const std::lock_guard lock(mutex_);
  return live_bytes_;
}

std::int64_t MemoryPool::cached_bytes() const {
  const std::lock_guard lock(mutex_);
#if CAUSEWAY_CUDA
  if (device_ == Device::cuda) {
    std::uint64_t reserved = 0;
    cuda_check(cudaMemPoolGetAttribute(pool_of(cuda_pool_), cudaMemPoolAttrReservedMemCurrent, &reserved));
    return static_cast<std::int64_t>(reserved) - live_bytes_;
  }
#endif
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

std::optional<std::int64_t> MemoryPool::free_device_bytes() const {
#if CAUSEWAY_CUDA
  if (device_ == Device::cuda) {
    std::size_t free = 0, all = 0;
    cuda_check(cudaMemGetInfo(&free, &all));
    return static_cast<std::int64_t>(free) + cached_bytes();
  }
#endif
  return std::nullopt;
}

void MemoryPool::drop_cache() noexcept {
  for (const auto& [bytes, block] : cached_) to_system(block, bytes);
  cached_.clear();
  cached_bytes_ = 0;
}

void* MemoryPool::from_system(std::int64_t bytes) {
  void* block = nullptr;
#if CAUSEWAY_CUDA
  const auto size = static_cast<std::size_t>(bytes);
  if (device_ == Device::cuda) {
    const auto get = [&] {
      return cudaMallocFromPoolAsync(&block, size, pool_of(cuda_pool_), stream_of(stream_)) == cudaSuccess;
    };
    // Free blocks of the pool that are not neighbours do not serve a larger request. The system takes them back when
    // what used them has ended.
    if (!get()) {
      cudaGetLastError();
      cudaStreamSynchronize(stream_of(stream_));
      cudaMemPoolTrimTo(pool_of(cuda_pool_), 0);
      if (!get()) block = nullptr;
    }
  } else if (page_locked_) {
    block = locked_block(bytes);
  } else {
    block = host_block(bytes);
  }
  if (block == nullptr) cudaGetLastError();  // clears the error: it is reported below, and not by a later call
#else
  block = host_block(bytes);
#endif
  ensure(block != nullptr, "out of {} memory: {} bytes requested, {} bytes in use",
         page_locked_ ? "page-locked" : name_of(device_), bytes, live_bytes_);
  return block;
}

void MemoryPool::to_system(void* block, [[maybe_unused]] std::int64_t bytes) noexcept {
#if CAUSEWAY_CUDA
  if (device_ == Device::cuda)
    cudaFreeAsync(block, stream_of(stream_));
  else if (page_locked_)
    free_locked_block(block, bytes);
  else
#endif
    free_host_block(block, bytes);
}

}  // namespace causeway
