#include "io/file/look_up.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

#include "io/file/descriptor.hpp"
#include "kernels/core/error.hpp"

namespace causeway {
namespace {

namespace fs = std::filesystem;

fs::file_type type_in(const fs::file_status& status, const std::error_code& error, const std::string& path) {
  if (error.value() == ELOOP) return fs::file_type::not_found;  // links that lead nowhere
  if (status.type() == fs::file_type::none) fail(ExitCode::io, "{}: cannot look it up: {}", path, error.message());
  return status.type();
}

}  // namespace

bool means_missing(int error) { return error == ENOENT || error == ENOTDIR; }

bool is_there(const std::string& path) {
  std::error_code error;
  const fs::file_status status = fs::symlink_status(path, error);
  return type_in(status, error, path) != fs::file_type::not_found;
}

fs::file_type kind_of(const std::string& path) {
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  return type_in(status, error, path);
}

std::string why_missing(const std::string& path, const char* what) {
  std::error_code error;
  static_cast<void>(fs::status(path, error));
  return error.value() == ELOOP ? error.message() : fmt::format("no such {}", what);
}

fs::file_type require_file(const std::string& path) {
  const fs::file_type kind = kind_of(path);
  require(kind != fs::file_type::not_found, "{}: {}", path, why_missing(path));
  require(kind != fs::file_type::directory, "{}: is a folder, expected a file", path);
  return kind;
}

void require_readable_folder(const std::string& path) {
  posix_check(::access(path.c_str(), R_OK | X_OK), path, "read the folder");
}

void require_readable_if_there(const std::string& path) {
  const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (file < 0 && means_missing(errno)) return;
  posix_check(file, path, "open");
  ::close(file);
}

}  // namespace causeway
