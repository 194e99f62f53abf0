#pragma once

#include <cstdint>

namespace causeway {

/// Allocates `bytes` of host memory, aligned to 256 bytes. Blocks of 1 MiB and more are on huge pages if Linux has free
/// ones. Returns null if the system refuses.
void* host_block(std::int64_t bytes);

/// Frees a block of host_block(bytes). A block of 1 MiB and more returns to the system at once.
void free_host_block(void* block, std::int64_t bytes) noexcept;

}  // namespace causeway
