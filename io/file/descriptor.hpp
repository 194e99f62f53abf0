#pragma once

#include <source_location>
#include <string>

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

}  // namespace causeway
