#pragma once

#include <span>
#include <string>

#include "kernels/core/error.hpp"

namespace causeway {

/// The program that main() calls: finds the command and runs it, or answers help, --help, --version, --man and
/// --completion. Errors are thrown.
ExitCode run_program(std::span<const std::string> arguments);

}  // namespace causeway
