#include "src/run/attempts.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string_view>

#include "io/file/descriptor.hpp"
#include "kernels/core/error.hpp"
#include "src/cli/exit_codes.hpp"
#include "src/run/json_fields.hpp"
#include "src/run/regular_file.hpp"
#include "src/run/utc_text.hpp"

namespace causeway {
namespace {

constexpr std::int64_t most_read = std::int64_t{1} << 20;

std::string path_in(const std::string& run) { return (std::filesystem::path(run) / "attempts.jsonl").string(); }

/// Appends the line in one write, and syncs it to the disk. First ends the last line if a crash has cut it short.
void append_line(const std::string& path, const nlohmann::ordered_json& line) {
  const Descriptor file(::open(path.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0666));
  struct stat facts {};
  if (!file || ::fstat(file.get(), &facts) != 0) fail(ExitCode::io, "{}: cannot write: {}", path, std::strerror(errno));
  if (!S_ISREG(facts.st_mode)) fail(ExitCode::io, "{}: not a regular file", path);
  char last = '\n';
  if (facts.st_size > 0 && ::pread(file.get(), &last, 1, facts.st_size - 1) != 1) last = '\0';
  std::string text = last == '\n' ? "" : "\n";
  text += line.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  text += '\n';
  if (!write_all(file.get(), text) || ::fsync(file.get()) != 0)
    fail(ExitCode::io, "{}: cannot write: {}", path, std::strerror(errno));
}

Attempt start_of(const nlohmann::json& line) {
  Attempt attempt{.number = integer_field(line, "attempt").value_or(0),
                  .time = text_field(line, "time"),
                  .started = number_field(line, "started").value_or(0),
                  .resumed_step = integer_field(line, "resumed_step").value_or(0),
                  .ranks = integer_field(line, "ranks").value_or(0),
                  .data = integer_field(line, "data").value_or(0),
                  .context = integer_field(line, "context").value_or(0),
                  .revision = text_field(line, "revision"),
                  .slurm_job_id = text_field(line, "slurm_job_id"),
                  .slurm_restart_count = text_field(line, "slurm_restart_count")};
  if (const auto hosts = line.find("hosts"); hosts != line.end() && hosts->is_array())
    for (const nlohmann::json& host : *hosts)
      if (host.is_string()) attempt.hosts.push_back(host.get<std::string>());
  return attempt;
}

}  // namespace

std::vector<Attempt> read_attempts(const std::string& run) {
  const std::optional<RegularFile> file = RegularFile::open(path_in(run));
  if (!file) return {};
  const std::int64_t begin = std::max<std::int64_t>(0, file->bytes() - most_read);
  std::string text = file->text(begin, file->bytes() - begin);
  if (begin > 0) text.erase(0, text.find('\n') + 1);
  std::vector<Attempt> attempts;
  for (std::size_t from = 0, end = 0; from < text.size(); from = end + 1) {
    end = std::min(text.find('\n', from), text.size());
    const nlohmann::json line = json_object(std::string_view(text).substr(from, end - from));
    const std::string event = text_field(line, "event");
    if (event == "start") attempts.push_back(start_of(line));
    // Several ranks may have failed and written an end: the first one is the cause.
    if (event != "end" || attempts.empty() || attempts.back().end ||
        attempts.back().number != integer_field(line, "attempt"))
      continue;
    attempts.back().end = Attempt::End{.time = text_field(line, "time"),
                                       .reason = text_field(line, "reason"),
                                       .code = integer_field(line, "exit_code"),
                                       .step = integer_field(line, "step"),
                                       .seconds = number_field(line, "seconds")};
  }
  return attempts;
}

void append_start(const std::string& run, Attempt attempt) {
  const std::vector<Attempt> before = read_attempts(run);
  nlohmann::ordered_json line{{"event", "start"},
                              {"attempt", before.empty() ? 1 : before.back().number + 1},
                              {"time", utc_text(attempt.started)},
                              {"started", attempt.started},
                              {"resumed_step", attempt.resumed_step},
                              {"ranks", attempt.ranks},
                              {"data", attempt.data},
                              {"context", attempt.context},
                              {"hosts", std::move(attempt.hosts)},
                              {"revision", attempt.revision}};
  if (!attempt.slurm_job_id.empty()) line["slurm_job_id"] = attempt.slurm_job_id;
  if (!attempt.slurm_restart_count.empty()) line["slurm_restart_count"] = attempt.slurm_restart_count;
  append_line(path_in(run), line);
}

void append_end(const std::string& run, std::int64_t attempt, const Attempt::End& end) {
  nlohmann::ordered_json line{{"event", "end"}, {"attempt", attempt}, {"time", end.time}};
  if (end.code) {
    line["exit_code"] = *end.code;
    if (const auto row = exit_code_row(*end.code)) line["exit"] = row->name;
  }
  line["reason"] = end.reason;
  if (end.step) line["step"] = *end.step;
  if (end.seconds) line["seconds"] = *end.seconds;
  append_line(path_in(run), line);
}

}  // namespace causeway
