#include "io/file/look_up.hpp"

#include <cerrno>
#include <system_error>

#include "kernels/core/error.hpp"

namespace causeway {
namespace {

namespace fs = std::filesystem;

fs::file_type type_in(const fs::file_status& status, const std::error_code& error, const std::string& path) {
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

}  // namespace causeway
