#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace causeway {

/// One attempt at a run: the first start of it, or a later one that resumed it. Each writes two lines to the run's
/// attempts.jsonl, one when it starts and one when it ends. Without the second line the attempt is active or was
/// killed.
struct Attempt {
  struct End {
    std::string time, reason;
    std::optional<std::int64_t> code, step;
    std::optional<double> seconds;
  };

  std::int64_t number = 1;
  std::string time;               ///< "2026-11-22T07:19:33.120Z"
  double started = 0;             ///< the same time in seconds since 1970
  std::int64_t resumed_step = 0;  ///< 0: the run was started, not resumed
  std::int64_t ranks = 0, data = 0, context = 0;
  std::vector<std::string> hosts;                           ///< without repetitions
  std::string revision, slurm_job_id, slurm_restart_count;  ///< Slurm's are "" outside of Slurm jobs
  std::optional<End> end;
};

/// The attempts of a run, oldest first. Reads the last MiB of the file, about a thousand attempts, and skips invalid
/// lines.
std::vector<Attempt> read_attempts(const std::string& run);

/// Appends the line of an attempt's start. Sets `number` to the next free one, and `time` from `started`. Throws
/// Error(io).
void append_start(const std::string& run, Attempt attempt);
/// Appends the line of an attempt's end. Any rank that detects the end may call it. Throws Error(io).
void append_end(const std::string& run, std::int64_t attempt, const Attempt::End& end);

}  // namespace causeway
