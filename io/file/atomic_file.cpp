#include "io/file/atomic_file.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <utility>

#include "io/file/look_up.hpp"
#include "kernels/core/error.hpp"

namespace causeway {
namespace {

const std::string& checked(const std::string& path, Existing existing) {
  check_target(path, existing);
  return path;
}

}  // namespace

void check_target(const std::string& path, Existing existing) {
  const auto found = kind_of(path);
  require(found == std::filesystem::file_type::not_found || found == std::filesystem::file_type::regular,
          "{}: exists and is not a regular file", path);
  // A broken link is something too: it may mean a file on a disk that is not there now.
  require(existing == Existing::replaced || !is_there(path), "{}: exists; --force replaces it", path);
  const std::string folder = std::filesystem::absolute(path).parent_path().string();
  if (kind_of(folder) != std::filesystem::file_type::directory)
    fail(ExitCode::io, "{}: cannot create: No such file or directory: {}", path, folder);
}

bool same_file(const std::string& a, const std::string& b) {
  std::error_code ignored;
  return std::filesystem::equivalent(a, b, ignored);
}

void sync_to_disk(const std::string& path) {
  const Descriptor file(posix_check(::open(path.c_str(), O_RDONLY | O_CLOEXEC), path, "open"));
  // Some file systems cannot sync a folder and return EINVAL. Then there is nothing more to do.
  if (::fsync(file.get()) < 0 && errno != EINVAL) posix_check(-1, path, "sync to the disk");
}

AtomicFile::AtomicFile(std::string path, Existing existing)
    : path_(std::move(path)), existing_(existing), temporary_(checked(path_, existing)) {}

Descriptor AtomicFile::open() const {
  return Descriptor(posix_check(::open(temporary().c_str(), O_WRONLY | O_CLOEXEC), path_, "write"));
}

void AtomicFile::commit() {
  sync();
  publish();
}

void AtomicFile::sync() { sync_to_disk(temporary()); }

void AtomicFile::publish() {
  temporary_.rename_to(path_, existing_ == Existing::replaced);
  const auto folder = std::filesystem::path(path_).parent_path();
  sync_to_disk(folder.empty() ? "." : folder.string());
}

void write_text(const std::string& path, const std::string& text) {
  AtomicFile file(path);
  {
    const Descriptor out = file.open();
    if (!write_all(out.get(), text)) posix_check(-1, path, "write");
  }
  file.commit();
}

}  // namespace causeway
