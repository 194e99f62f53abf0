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
/// An open file of the system's.
using Descriptor = Handle<DescriptorTraits>;

/// The checker of system calls on files: where `result` is negative, throws Error(io): "path: cannot doing: errno's
/// text".
int posix_check(int result, const std::string& path, const char* doing,
                std::source_location location = std::source_location::current());

}  // namespace causeway
