#pragma once

#include <optional>
#include <string>
#include <vector>

#include "src/health/rank_board.hpp"

namespace causeway {

/// Whether the rank's writing thread is writing its checkpoint. False in `copy`, which the training thread does, and in
/// `hashed`, where the rank waits for the others.
bool is_writing(const RankProgress::Snapshot& progress);

/// How long a rank has been idle, as it knows itself. While its checkpoint is being written, the writing thread's time
/// counts and not the training thread's: the training thread may wait for a writing thread that makes progress, and a
/// writing thread that hangs must be noticed although training continues. For a thread inside the system only the time
/// beyond `extra_s` counts: one fsync of a slow disk may take longer than anything else of a run.
double idle_s(const RankProgress::Snapshot& progress, double extra_s = 0);

/// How long all ranks have been idle, by the ranks' lines as read at `now` (seconds since 1970); infinite without
/// lines.
double idle_s(const std::vector<std::optional<RankLine>>& lines, double now, double extra_s = 0);

/// Whether a rank has written no line for so long that it was stopped or is gone: longer than `limit_s`, and than five
/// of its lines would take. Then --watchdog-io does not apply: ranks that seem to be inside the system may only wait
/// for this one.
bool has_lost_rank(const std::vector<std::optional<RankLine>>& lines, double now, double limit_s);

/// The watchdog's report on ranks that make no progress.
struct StallReport {
  std::string reason;              ///< one line: for how long, and the rank that is the most likely cause
  std::vector<std::string> ranks;  ///< one line for each rank, with its position
};
/// `limit_s`: the value of --watchdog; `extra_s`: how much longer a thread may be inside the system. A rank whose
/// line is much older than it should be was stopped or is gone.
StallReport describe_stall(const std::vector<std::optional<RankLine>>& lines, double now, double limit_s,
                           double extra_s = 0);

}  // namespace causeway
