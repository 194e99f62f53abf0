#pragma once

#include <string>

namespace causeway {

/// What a run's folder tells of the run, in lines for a person: its attempts, how far it came, its losses, its
/// checkpoints, how it ended. Whatever is missing is left out.
std::string run_summary(const std::string& run);

}  // namespace causeway
