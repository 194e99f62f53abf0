#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace causeway {

/// One start of a run: requeued jobs and resumed runs leave a pair of lines each in the run's attempts.jsonl, one as
/// the attempt starts and one as it ends. Where the second is missing, the attempt goes on, or was killed.
struct Attempt {
  struct End {
    std::string time, reason;
    std::optional<std::int64_t> code, step;
    std::optional<double> seconds;
  };

  std::int64_t number = 1;
  std::string time;               ///< "2026-11-22T07:19:33.120Z"
  double started = 0;             ///< the same in seconds since 1970
  std::int64_t resumed_step = 0;  ///< 0: it began afresh
  std::int64_t ranks = 0, data = 0, context = 0;
  std::vector<std::string> hosts;                           ///< each once
  std::string revision, slurm_job_id, slurm_restart_count;  ///< Slurm's are "" without it
  std::optional<End> end;
};

/// The attempts of a run, oldest first: the last thousand or so of them. Lines that are none are passed over.
std::vector<Attempt> read_attempts(const std::string& run);

/// Appends the line of an attempt's start. `number` is found here; `time` is that of `started`. Throws Error(io).
void append_start(const std::string& run, Attempt attempt);
/// Appends the line of its end, to the last attempt that has started. Any rank, whoever knows of it. Throws Error(io).
void append_end(const std::string& run, std::int64_t attempt, const Attempt::End& end);

}  // namespace causeway
