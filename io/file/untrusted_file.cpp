#include "io/file/untrusted_file.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "io/file/look_up.hpp"
#include "kernels/core/error.hpp"

namespace causeway {

std::pair<Descriptor, std::int64_t> open_untrusted(const std::string& path) {
  // O_NONBLOCK: opening a pipe must not wait for its writer; it throws below.
  Descriptor file(::open(path.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
  if (!file && means_missing(errno)) fail(ExitCode::corrupt, "{}: is missing", path);
  if (!file && errno == ELOOP) fail(ExitCode::corrupt, "{}: is a link to elsewhere, expected the file itself", path);
  if (!file && errno == ENXIO) fail(ExitCode::corrupt, "{}: is not a regular file", path);  // a socket
  posix_check(file.get(), path, "open");
  struct stat status {};
  posix_check(::fstat(file.get(), &status), path, "read its size");
  if (!S_ISREG(status.st_mode)) fail(ExitCode::corrupt, "{}: is not a regular file", path);
  return {std::move(file), status.st_size};
}

std::int64_t size_of_file(const std::string& path) { return open_untrusted(path).second; }

std::size_t read_some(const Descriptor& file, void* bytes, std::size_t count, const std::string& path) {
  for (;;) {
    const ssize_t got = ::read(file.get(), bytes, count);
    if (got < 0 && errno == EINTR) continue;
    return static_cast<std::size_t>(posix_check(static_cast<int>(got), path, "read"));
  }
}

std::string read_untrusted(const std::string& path, std::int64_t most) {
  const auto [file, size] = open_untrusted(path);
  if (size > most) fail(ExitCode::corrupt, "{}: has {} bytes, expected at most {}", path, size, most);
  std::string text(static_cast<std::size_t>(size), '\0');
  std::size_t done = 0;
  while (done < text.size()) {
    const std::size_t got = read_some(file, text.data() + done, text.size() - done, path);
    if (got == 0) break;
    done += got;
  }
  text.resize(done);
  return text;
}

}  // namespace causeway
