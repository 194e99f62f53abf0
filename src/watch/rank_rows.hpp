#pragma once

#include <span>

#include "src/watch/run_state.hpp"
#include "src/watch/section.hpp"

namespace causeway {

/// A rank not heard of for this long has stopped, or its host is gone: it writes at least once a step or a second.
inline constexpr double silent_after_s = 30;

/// A bar a rank: how its step was spent, computing and communicating, against the slowest's; at most `room` lines. More
/// ranks than that become one strip, a column for so many neighbours, and the slowest ranks by name.
Section rank_rows(std::span<const RankLine> ranks, double now, const Look& look, int room);

/// The ranks not heard of for long; no line where there are none.
Section silent_ranks(std::span<const RankLine> ranks, double now, const Look& look);

}  // namespace causeway
