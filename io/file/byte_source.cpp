#include "io/file/byte_source.hpp"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>

#include "io/file/look_up.hpp"
#include "kernels/core/error.hpp"

namespace causeway {

ByteSource::ByteSource(std::vector<std::string> paths) {
  ensure(!paths.empty(), "a source of bytes has no file");
  for (std::string& path : paths) {
    require_file(path);
    // O_NONBLOCK: opening a pipe must not wait for its writer.
    Descriptor descriptor(posix_check(::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC), path, "open"));
    struct stat status {};
    posix_check(::fstat(descriptor.get(), &status), path, "read its size");
    require(S_ISREG(status.st_mode), "{}: is not a regular file; it is read at any offset, expected a file on a disk",
            path);
    files_.push_back({std::move(path), std::move(descriptor), size_, status.st_size});
    size_ += status.st_size;
  }
}

void ByteSource::read(std::int64_t begin, std::span<std::byte> out) const {
  if (begin < 0 || begin > size_ || std::ssize(out) > size_ - begin)
    fail(ExitCode::corrupt, "{}: has {} bytes, expected {} from byte {} on", path(), size_, out.size(), begin);
  auto file = std::ranges::upper_bound(files_, begin, {}, &File::begin) - 1;
  while (!out.empty()) {
    const std::int64_t inside = begin - file->begin;
    if (inside == file->size) {  // also an empty file
      ++file;
      continue;
    }
    const auto some = out.first(std::min(out.size(), static_cast<std::size_t>(file->size - inside)));
    if (read_all_at(file->descriptor.get(), some, inside, file->path, "read") < some.size())
      fail(ExitCode::corrupt, "{}: became shorter while it was read", file->path);
    out = out.subspan(some.size());
    begin += std::ssize(some);
  }
}

std::string ByteSource::text(std::int64_t begin, std::int64_t bytes) const {
  std::string text(static_cast<std::size_t>(bytes), '\0');
  read(begin, std::as_writable_bytes(std::span(text)));
  return text;
}

}  // namespace causeway
