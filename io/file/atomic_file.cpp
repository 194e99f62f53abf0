#include "io/file/atomic_file.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <utility>

#include "io/file/descriptor.hpp"
#include "kernels/core/error.hpp"

namespace causeway {

bool same_file(const std::string& a, const std::string& b) {
  std::error_code ignored;
  return std::filesystem::equivalent(a, b, ignored);
}

void sync_to_disk(const std::string& path) {
  const Descriptor file(posix_check(::open(path.c_str(), O_RDONLY | O_CLOEXEC), path, "open"));
  // Some file systems cannot sync a folder and return EINVAL. Then there is nothing more to do.
  if (::fsync(file.get()) < 0 && errno != EINVAL) posix_check(-1, path, "sync to the disk");
}

AtomicFile::AtomicFile(std::string path) : path_(std::move(path)) {
  std::error_code error;
  const auto status = std::filesystem::status(path_, error);
  if (std::filesystem::exists(status) && !std::filesystem::is_regular_file(status))
    fail(ExitCode::usage, "{}: exists and is not a regular file", path_);
  for (int attempt = 0;; ++attempt) {
    temporary_ = fmt::format("{}.tmp-{}-{}", path_, ::getpid(), attempt);
    const Descriptor file(::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666));
    if (file) return;
    if (errno != EEXIST || attempt == 1000) {
      const std::string name = std::exchange(temporary_, "");
      posix_check(-1, name, "create");
    }
  }
}

AtomicFile::~AtomicFile() {
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
}

void AtomicFile::commit() {
  sync_to_disk(temporary_);
  posix_check(::rename(temporary_.c_str(), path_.c_str()), path_, "rename the finished file to it");
  temporary_.clear();
  const auto folder = std::filesystem::path(path_).parent_path();
  sync_to_disk(folder.empty() ? "." : folder.string());
}

void write_text(const std::string& path, const std::string& text) {
  AtomicFile file(path);
  {
    std::ofstream out(file.temporary(), std::ios::binary);
    out << text;
    out.close();
    if (!out) fail(ExitCode::io, "{}: cannot write: {}", path, std::strerror(errno));
  }
  file.commit();
}

}  // namespace causeway
