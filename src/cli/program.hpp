#pragma once

#include <span>
#include <string>

#include "kernels/core/error.hpp"

namespace causeway {

/// The program behind main(): finds the command and runs it, or answers --help, --version and --man. Errors are thrown.
ExitCode run_program(std::span<const std::string> arguments);

}  // namespace causeway
