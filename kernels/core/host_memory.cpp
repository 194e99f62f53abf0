#include "kernels/core/host_memory.hpp"

#include "kernels/core/integer.hpp"

#include <cstddef>
#include <cstdlib>

#ifdef __linux__
#include <sys/mman.h>
#include <unistd.h>
#endif

namespace causeway {
namespace {

constexpr std::int64_t alignment = 256;
#ifdef __linux__
constexpr std::int64_t huge_page = 2 << 20;
// From here on blocks are mapped by themselves: malloc keeps what is freed, up to 32 MiB a block.
constexpr std::int64_t mapped = 1 << 20;

/// A mapping that begins at a huge page: what stands before and after it goes back.
void* map_on_huge_pages(std::int64_t bytes) {
  const auto size = static_cast<std::size_t>(bytes);
  void* const place = mmap(nullptr, size + huge_page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (place == MAP_FAILED) return nullptr;
  auto* const first = static_cast<std::byte*>(place);
  auto* const block = reinterpret_cast<std::byte*>(round_up(reinterpret_cast<std::intptr_t>(place), huge_page));
  if (block > first) munmap(first, static_cast<std::size_t>(block - first));
  munmap(block + size, static_cast<std::size_t>(huge_page - (block - first)));
#ifdef MADV_HUGEPAGE
  // A kernel that takes a tile of channels down the tokens touches a page a row, and with 4 KiB pages waits for their
  // translation longer than for their bytes. Advice: where it is refused, small pages serve as well. Whole huge pages
  // only, so that a block takes no more memory.
  madvise(block, static_cast<std::size_t>(bytes / huge_page * huge_page), MADV_HUGEPAGE);
#endif
  return block;
}
#endif

}  // namespace

#ifdef __linux__

void* host_block(std::int64_t bytes) {
  if (bytes < mapped) return std::aligned_alloc(alignment, static_cast<std::size_t>(round_up(bytes, alignment)));
  if (bytes > std::int64_t{1} << 56) return nullptr;  // beyond any address space; sums with it would overflow
  return map_on_huge_pages(round_up(bytes, sysconf(_SC_PAGESIZE)));
}

void free_host_block(void* block, std::int64_t bytes) noexcept {
  if (bytes < mapped)
    std::free(block);
  else
    munmap(block, static_cast<std::size_t>(round_up(bytes, sysconf(_SC_PAGESIZE))));
}

#else

void* host_block(std::int64_t bytes) {
  void* block = nullptr;
  return posix_memalign(&block, alignment, static_cast<std::size_t>(bytes)) == 0 ? block : nullptr;
}

void free_host_block(void* block, std::int64_t) noexcept { std::free(block); }

#endif

}  // namespace causeway
