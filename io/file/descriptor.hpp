#pragma once

#include <cstddef>
#include <cstdint>
#include <source_location>
#include <span>
#include <string>
#include <string_view>

#include "kernels/core/handle.hpp"

namespace causeway {

struct DescriptorTraits {
  using type = int;
  static type null() { return -1; }
  static void close(type descriptor) noexcept;
};
/// An open file descriptor.
using Descriptor = Handle<DescriptorTraits>;

/// Checks the result of a system call on a file. Throws Error(io) if it is negative: "path: cannot `doing`: text of
/// errno".
int posix_check(int result, const std::string& path, const char* doing,
                std::source_location location = std::source_location::current());

/// Whether an errno of flock(2) says that the file system has no locks, as some NFS and Lustre mounts.
bool means_no_locks(int error);

/// Writes all of `text`, in several calls where the system writes only a part. Returns false where it fails; errno then
/// has the reason. Waits while a descriptor that another program made non-blocking is not ready.
bool write_all(int descriptor, std::string_view text) noexcept;
/// The same at an offset of a file.
bool write_all_at(int descriptor, std::string_view text, std::int64_t offset) noexcept;

/// Reads from `offset` on until `out` is full or the file ends, in several calls where the system reads only a part.
/// Returns the bytes read. Throws Error(io): "path: cannot `doing`: text of errno".
std::size_t read_all_at(int descriptor, std::span<std::byte> out, std::int64_t offset, const std::string& path,
                        const char* doing, std::source_location location = std::source_location::current());

}  // namespace causeway
