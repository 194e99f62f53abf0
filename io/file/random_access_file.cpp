#include "io/file/random_access_file.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "io/file/look_up.hpp"
#include "kernels/core/error.hpp"

namespace causeway {

RandomAccessFile::RandomAccessFile(const std::string& path) : path_(path) {
  require(require_file(path) == std::filesystem::file_type::regular,
          "{}: is not a regular file; this format is read at any offset, expected a file on a disk", path);
  file_ = Descriptor(posix_check(::open(path.c_str(), O_RDONLY | O_CLOEXEC), path, "open"));
  struct stat status {};
  posix_check(::fstat(file_.get(), &status), path, "read the size of");
  size_ = status.st_size;
}

void RandomAccessFile::read(std::int64_t offset, std::span<std::byte> out) const {
  const auto wanted = static_cast<std::int64_t>(out.size());
  require(offset >= 0 && offset <= size_ && wanted <= size_ - offset, "{}: has {} bytes, expected {} from byte {} on",
          path_, size_, wanted, offset);
  while (!out.empty()) {
    const ssize_t count = ::pread(file_.get(), out.data(), out.size(), offset);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) posix_check(-1, path_, "read");
    require(count > 0, "{}: became shorter while it was read", path_);
    out = out.subspan(static_cast<std::size_t>(count));
    offset += count;
  }
}

}  // namespace causeway
