#include "io/file/descriptor.hpp"

#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>

#include "kernels/core/error.hpp"

namespace causeway {
namespace {

/// Calls `write` with the rest of `text` and the number of bytes written before, until everything is written.
template <class Write>
bool write_rest(int descriptor, std::string_view text, const Write& write) noexcept {
  std::size_t done = 0;
  while (done < text.size()) {
    const ssize_t count = write(text.substr(done), done);
    if (count < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
      pollfd out{.fd = descriptor, .events = POLLOUT, .revents = 0};
      ::poll(&out, 1, 100);
    } else if (count < 0 && errno != EINTR) {
      return false;
    } else if (count == 0) {  // no reason is given
      errno = EIO;
      return false;
    }
    // After a part, the next call says why the rest could not be written: a full disk, a limit.
    if (count > 0) done += static_cast<std::size_t>(count);
  }
  return true;
}

}  // namespace

void DescriptorTraits::close(type descriptor) noexcept { ::close(descriptor); }

int posix_check(int result, const std::string& path, const char* doing, std::source_location location) {
  if (result < 0)
    fail(ExitCode::io, "{}: cannot {}: {} ({}:{})", path, doing, std::strerror(errno),
         std::filesystem::path(location.file_name()).filename().string(), location.line());
  return result;
}

bool means_no_locks(int error) { return error == ENOLCK || error == ENOSYS || error == EOPNOTSUPP || error == EINVAL; }

bool write_all(int descriptor, std::string_view text) noexcept {
  return write_rest(descriptor, text,
                    [&](std::string_view rest, std::size_t) { return ::write(descriptor, rest.data(), rest.size()); });
}

bool write_all_at(int descriptor, std::string_view text, std::int64_t offset) noexcept {
  return write_rest(descriptor, text, [&](std::string_view rest, std::size_t done) {
    return ::pwrite(descriptor, rest.data(), rest.size(), offset + static_cast<std::int64_t>(done));
  });
}

std::size_t read_all_at(int descriptor, std::span<std::byte> out, std::int64_t offset, const std::string& path,
                        const char* doing, std::source_location location) {
  std::size_t done = 0;
  while (done < out.size()) {
    const ssize_t count =
        ::pread(descriptor, out.data() + done, out.size() - done, offset + static_cast<std::int64_t>(done));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) posix_check(-1, path, doing, location);
    if (count == 0) break;
    done += static_cast<std::size_t>(count);
  }
  return done;
}

}  // namespace causeway
