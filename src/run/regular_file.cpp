#include "src/run/regular_file.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

namespace causeway {

std::optional<RegularFile> RegularFile::open(const std::string& path) {
  RegularFile file;
  // Without O_NONBLOCK, opening a pipe would wait for a writer.
  file.file_ = Descriptor(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
  struct stat facts {};
  if (!file.file_ || ::fstat(file.file_.get(), &facts) != 0 || !S_ISREG(facts.st_mode)) return std::nullopt;
  file.bytes_ = facts.st_size;
  file.modified_ = static_cast<double>(facts.st_mtim.tv_sec) + 1e-9 * static_cast<double>(facts.st_mtim.tv_nsec);
  file.device_ = facts.st_dev;
  file.inode_ = facts.st_ino;
  return file;
}

std::size_t RegularFile::read(std::int64_t offset, std::span<char> into) const {
  while (true) {
    const ssize_t got = ::pread(file_.get(), into.data(), into.size(), offset);
    if (got >= 0) return static_cast<std::size_t>(got);
    if (errno != EINTR) return 0;
  }
}

std::string RegularFile::text(std::int64_t offset, std::int64_t count) const {
  std::string text(static_cast<std::size_t>(std::max<std::int64_t>(0, count)), '\0');
  std::size_t filled = 0;
  while (filled < text.size()) {
    const std::size_t got = read(offset + static_cast<std::int64_t>(filled), std::span(text).subspan(filled));
    if (got == 0) break;
    filled += got;
  }
  text.resize(filled);
  return text;
}

std::optional<std::string> read_regular(const std::string& path, std::size_t limit) {
  const std::optional<RegularFile> file = RegularFile::open(path);
  if (!file || file->bytes() > static_cast<std::int64_t>(limit)) return std::nullopt;
  return file->text(0, file->bytes());
}

}  // namespace causeway
