#pragma once

#include <span>

#include "src/watch/run_state.hpp"
#include "src/watch/section.hpp"

namespace causeway {

/// A rank that has not written its line for this long was stopped, or its host is gone: it writes every second.
inline constexpr double silent_after_s = 30;

/// At most `room` lines with a bar for each rank: the time of its step, computing and waiting for communication,
/// relative to the slowest rank's. If that is not enough for all ranks: one line for all of them, and bars of the
/// slowest ones.
Section rank_rows(std::span<const RankLine> ranks, double now, const Look& look, int room);

/// The ranks that are silent for longer than silent_after_s; no line without such ranks.
Section silent_ranks(std::span<const RankLine> ranks, double now, const Look& look);

}  // namespace causeway
