#pragma once

#include <string>
#include <vector>

#include "src/watch/run_state.hpp"
#include "src/watch/text.hpp"

namespace causeway {

/// What `causeway watch` shows of a run at `now`, seconds since 1970: at most look.height lines of at most look.width
/// columns. The most important lines are those that a small terminal still has; the loss curve takes what room is left.
/// Depends on nothing but its arguments.
std::vector<std::string> build_frame(const RunState& run, double now, const Look& look);

/// The same in one line, for a terminal that can only be written to.
std::string status_line(const RunState& run, double now, const Look& look);

}  // namespace causeway
