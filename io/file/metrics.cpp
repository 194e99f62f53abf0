#include "io/file/metrics.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
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

MetricsLog::MetricsLog(const std::string& path, std::int64_t resumed_step) : path_(path) {
  std::string kept;
  AtomicFile file(path);  // throws if `path` is not a regular file: reading a pipe would wait
  if (resumed_step > 0) {
    errno = 0;
    std::ifstream before(path);
    const bool missing = !before && means_missing(errno);
    for (std::string line; std::getline(before, line);) {
      const auto step = step_of(line);
      if (step && *step <= resumed_step) kept += line + "\n";
    }
    // Lines that cannot be read now must not be lost.
    if (!missing && !before.eof()) fail(ExitCode::io, "{}: cannot read: {}", path, std::strerror(errno));
  }
  path_ = file.temporary();
  write_at(0, kept);
  path_ = path;
  file.commit();
  last_ = end_ = static_cast<std::int64_t>(kept.size());
}

void MetricsLog::append(const nlohmann::ordered_json& line) {
  const std::string text = line.dump() + "\n";
  write_at(end_, text);
  last_ = end_;
  end_ += static_cast<std::int64_t>(text.size());
}

void MetricsLog::amend(const nlohmann::ordered_json& line) {
  const std::string text = line.dump() + "\n";
  ensure(last_ + static_cast<std::int64_t>(text.size()) >= end_, "an amended metrics line is shorter than before");
  write_at(last_, text);
  end_ = last_ + static_cast<std::int64_t>(text.size());
}

void MetricsLog::write_at(std::int64_t offset, const std::string& text) {
  const Descriptor file(::open(path_.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0666));
  // One system call for each line: a killed process leaves only complete lines.
  const bool written =
      file && ::pwrite(file.get(), text.data(), text.size(), offset) == static_cast<ssize_t>(text.size());
  if (!written) fail(ExitCode::io, "{}: cannot write: {}", path_, std::strerror(errno));
}

}  // namespace causeway
