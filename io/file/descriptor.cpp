#include "io/file/descriptor.hpp"

#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>

#include "kernels/core/error.hpp"

namespace causeway {

void DescriptorTraits::close(type descriptor) noexcept { ::close(descriptor); }

int posix_check(int result, const std::string& path, const char* doing, std::source_location location) {
  if (result < 0)
    fail(ExitCode::io, "{}: cannot {}: {} ({}:{})", path, doing, std::strerror(errno),
         std::filesystem::path(location.file_name()).filename().string(), location.line());
  return result;
}

bool means_no_locks(int error) { return error == ENOLCK || error == ENOSYS || error == EOPNOTSUPP || error == EINVAL; }

}  // namespace causeway
