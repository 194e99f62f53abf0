#pragma once

#include <string>

namespace causeway {

/// A summary of a run, as text: its steps, losses, checkpoints, end and attempts, as the run directory's files show
/// them. Leaves out what the files do not contain.
std::string run_summary(const std::string& run);

}  // namespace causeway
