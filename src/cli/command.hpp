#pragma once

#include <functional>
#include <span>
#include <string>
#include <string_view>

#include "kernels/core/error.hpp"
#include "src/cli/config.hpp"
#include "src/cli/launch.hpp"

namespace causeway {

/// One command: a file in src/commands/ and a row in src/cli/commands.cpp.
struct Command {
  using Reader = std::function<void(const CommandLine&)>;

  std::string_view name;
  std::string_view summary;  ///< one line of `causeway --help`
  /// Calls `read` with the command's option table, in which every field has its default.
  void (*describe)(const Reader& read);
  /// Parses the arguments that follow the name, and runs the command. Errors are thrown.
  ExitCode (*run)(std::string_view name, std::span<const std::string> arguments);
};
std::span<const Command> commands();

/// A script that completes commands, options and their values in `shell`: "bash" or "zsh". Throws Error(usage) for any
/// other shell.
std::string completion_script(std::string_view shell);

/// Prints lines of text to standard output, only on the first rank, with escapes for what could control a terminal.
/// Throws Error(io) where that fails.
void print_answer(std::string_view text, int rank = launcher_rank());

/// run_alone() with print_answer(), for the answer to these words.
ExitCode print_alone(std::string_view text, std::string_view command, std::span<const std::string> arguments);

/// Settings of a command that runs on ranks: they contain the LaunchOptions, with which the command calls launch().
template <class Settings>
concept RunsOnRanks = requires(Settings settings) {
  settings.launch;
};

/// A row of the table of commands. The options are fields of `Settings`: `declare` binds each option to its field,
/// `execute` runs after the fields are set.
template <class Settings, CommandLine (*declare)(Settings&), ExitCode (*execute)(const Settings&)>
constexpr Command make_command(std::string_view name, std::string_view summary) {
  return {.name = name,
          .summary = summary,
          .describe =
              [](const Command::Reader& read) {
                Settings settings;
                read(declare(settings));
              },
          .run =
              [](std::string_view command, std::span<const std::string> arguments) {
                Settings settings;
                if (const auto answer = parse(declare(settings), command, arguments))
                  return print_alone(*answer, command, arguments);
                const std::string command_line = std::string(command) + '\n' + to_ini(declare(settings));
                if constexpr (RunsOnRanks<Settings>) {
                  settings.launch.command_line = command_line;
                  return execute(settings);
                } else {
                  return run_alone(command_line, [&] { return execute(settings); });
                }
              }};
}

}  // namespace causeway
