#include "io/file/metrics_log.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>

#include "io/file/atomic_file.hpp"
#include "io/file/descriptor.hpp"
#include "io/file/look_up.hpp"
#include "kernels/core/error.hpp"

namespace causeway {
namespace {

/// The step of a line; nothing for a line that a crash truncated.
std::optional<std::int64_t> step_of(const std::string& line) {
  const auto parsed = nlohmann::json::parse(line, nullptr, false);
  if (!parsed.is_object() || !parsed.contains("step") || !parsed["step"].is_number_integer()) return std::nullopt;
  return parsed["step"].get<std::int64_t>();
}

}  // namespace

MetricsLog::MetricsLog(std::string path, std::int64_t resumed_step, Warn warn)
    : path_(std::move(path)), warn_(std::move(warn)) {
  std::string kept;
  AtomicFile file(path_);  // throws if the path is not that of a regular file: reading a pipe would wait
  if (resumed_step > 0) {
    errno = 0;
    std::ifstream before(path_);
    const bool missing = !before && means_missing(errno);
    for (std::string line; std::getline(before, line);) {
      const auto step = step_of(line);
      if (step && *step <= resumed_step) kept += line + "\n";
    }
    // Lines that cannot be read now must not be lost.
    if (!missing && !before.eof()) posix_check(-1, path_, "read");
  }
  struct stat facts {};
  {
    const Descriptor out = file.open();
    if (!write_all(out.get(), kept)) posix_check(-1, path_, "write");
    posix_check(::fstat(out.get(), &facts), path_, "write");
  }
  file.commit();
  last_ = end_ = facts.st_size;
  inode_ = facts.st_ino;
}

void MetricsLog::append(const nlohmann::ordered_json& line) { write(line, false); }

void MetricsLog::amend(const nlohmann::ordered_json& line) { write(line, true); }

void MetricsLog::write(const nlohmann::ordered_json& line, bool amends) {
  std::string text = line.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
  const Descriptor file(
      posix_check(::open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW, 0666), path_, "write"));
  struct stat facts {};
  posix_check(::fstat(file.get(), &facts), path_, "write");
  if (!S_ISREG(facts.st_mode)) fail(ExitCode::io, "{}: is no longer a regular file", path_);
  const bool changed = facts.st_ino != inode_ || facts.st_size != end_;
  std::int64_t begin = amends ? last_ : end_;
  if (changed) {  // where the last line starts is not known any more
    begin = facts.st_size;
    char last = '\n';
    if (begin > 0) posix_check(static_cast<int>(::pread(file.get(), &last, 1, begin - 1)), path_, "read");
    if (last != '\n') {  // its line is cut short
      if (!write_all_at(file.get(), "\n", begin)) posix_check(-1, path_, "write");
      ++begin;
    }
    if (warn_) warn_(fmt::format("{}: another program removed or changed it; its earlier lines may be lost", path_));
  } else {
    ensure(begin + std::ssize(text) >= end_, "an amended metrics line is shorter than before");
  }
  // One system call for each line: a killed process leaves only complete lines.
  if (!write_all_at(file.get(), text, begin)) {
    const int reason = errno;
    (void)!::ftruncate(file.get(), facts.st_size);
    if (!changed && amends) (void)write_all_at(file.get(), last_line_, last_);
    errno = reason;
    posix_check(-1, path_, "write");
  }
  last_ = begin;
  end_ = begin + std::ssize(text);
  last_line_ = std::move(text);
  inode_ = facts.st_ino;
}

}  // namespace causeway
