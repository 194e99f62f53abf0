#pragma once

#include <span>
#include <string>
#include <string_view>

namespace causeway {

/// One subcommand: a file under src/commands/, a row in src/commands.cpp.
struct Command {
  std::string_view name;
  std::string_view summary;
  /// Takes what follows the name; returns the exit code. Errors are thrown.
  int (*run)(std::span<const std::string> arguments);
};
std::span<const Command> commands();

}  // namespace causeway
