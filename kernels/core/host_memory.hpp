#pragma once

#include <cstdint>

namespace causeway {

/// `bytes` of host memory aligned to 256, large blocks on huge pages where Linux has them to give; null where there is
/// not as much.
void* host_block(std::int64_t bytes);

/// Gives a block of host_block(bytes) back to the system, large ones at once.
void free_host_block(void* block, std::int64_t bytes) noexcept;

}  // namespace causeway
