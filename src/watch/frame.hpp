#pragma once

#include <string>
#include <vector>

#include "src/watch/run_state.hpp"
#include "src/watch/text.hpp"

namespace causeway {

/// The lines that `causeway watch` shows of a run at `now` (seconds since 1970): at most look.height lines of at most
/// look.width columns. On a small terminal the least important sections are left out; the loss curve takes the lines
/// that remain. A pure function of its arguments.
std::vector<std::string> build_frame(const RunState& run, double now, const Look& look);

/// The same in one line, for an output on which the cursor cannot be moved.
std::string status_line(const RunState& run, double now, const Look& look);

}  // namespace causeway
