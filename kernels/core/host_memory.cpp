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
// Each block of this size or more gets a separate mapping, because malloc would keep freed blocks of up to 32 MiB.
constexpr std::int64_t smallest_mapping = 1 << 20;

/// A mapping that begins at a huge page. It maps one huge page more and unmaps what is before and after the block.
void* map_on_huge_pages(std::int64_t bytes) {
  const auto size = static_cast<std::size_t>(bytes);
  void* const mapping = mmap(nullptr, size + huge_page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapping == MAP_FAILED) return nullptr;
  auto* const first = static_cast<std::byte*>(mapping);
  auto* const block = reinterpret_cast<std::byte*>(round_up(reinterpret_cast<std::intptr_t>(mapping), huge_page));
  if (block > first) munmap(first, static_cast<std::size_t>(block - first));
  munmap(block + size, static_cast<std::size_t>(huge_page - (block - first)));
#ifdef MADV_HUGEPAGE
  // A kernel that walks over the tokens of one tile of channels touches one page a row. With pages of 4 KiB it waits
  // longer for address translation (TLB misses) than for the data. The call is advice: if it fails, small pages work
  // too. Only whole huge pages are advised, so that a block takes no more memory than asked for.
  madvise(block, static_cast<std::size_t>(bytes / huge_page * huge_page), MADV_HUGEPAGE);
#endif
  return block;
}
#endif

}  // namespace

#ifdef __linux__

void* host_block(std::int64_t bytes) {
  if (bytes < smallest_mapping)
    return std::aligned_alloc(alignment, static_cast<std::size_t>(round_up(bytes, alignment)));
  if (bytes > std::int64_t{1} << 56) return nullptr;  // larger than any address space; the sum below would overflow
  return map_on_huge_pages(round_up(bytes, sysconf(_SC_PAGESIZE)));
}

void free_host_block(void* block, std::int64_t bytes) noexcept {
  if (bytes < smallest_mapping)
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
