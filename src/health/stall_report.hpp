#pragma once

#include <optional>
#include <string>
#include <vector>

#include "src/health/rank_board.hpp"

namespace causeway {

/// Whether its checkpoint is being written by a thread beside the training thread, whose own `copy` is; a rank that is
/// `hashed` waits for the others.
bool writes(const RankProgress::View& view);

/// How long a rank has stood still, by what it says of itself: while its checkpoint is being written, that counts, in
/// either direction. The training thread may wait for it as long as it moves, and it may not stop behind the other's
/// back.
double still_s(const RankProgress::View& view);

/// How long no rank has moved, as the ranks' lines say at `now` (seconds since 1970); infinite without any.
double still_s(const std::vector<std::optional<RankLine>>& lines, double now);

/// What to say of ranks that do not move.
struct Stall {
  std::string reason;              ///< one line: for how long, and who is the likeliest cause
  std::vector<std::string> ranks;  ///< a line each: where it stands
};
/// `limit_s`: what --watchdog says. A rank whose line is older than others' has been stopped, or is gone.
Stall describe_stall(const std::vector<std::optional<RankLine>>& lines, double now, double limit_s);

}  // namespace causeway
