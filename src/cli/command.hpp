#pragma once

#include <functional>
#include <span>
#include <string>
#include <string_view>

#include "kernels/core/error.hpp"
#include "src/cli/config.hpp"
#include "src/cli/launch.hpp"

namespace causeway {

/// One subcommand: a file under src/commands/, a row in src/cli/commands.cpp.
struct Command {
  using Reader = std::function<void(const CommandLine&)>;

  std::string_view name;
  std::string_view summary;  ///< one line of `causeway --help`
  /// Hands the command's option table, at its defaults, to a reader.
  void (*describe)(const Reader& read);
  /// Parses what follows the name and runs. Errors are thrown.
  ExitCode (*run)(std::string_view name, std::span<const std::string> arguments);
};
std::span<const Command> commands();

/// Prints to standard output, on the first rank alone; throws Error(io) where that fails.
void print_answer(std::string_view text, int rank = launcher_rank());

/// Runs what no other process takes part in, whether or not a launcher started several: its errors become ones nobody
/// waits for (AgreedError).
ExitCode run_alone(const std::function<ExitCode()>& body);

/// A command that runs on ranks has their options among its settings, and calls launch() with them.
template <class Settings>
concept RunsOnRanks = requires(Settings settings) {
  settings.launch;
};

/// A row whose options are fields of `Settings`: `declare` binds them, `execute` runs with them filled in.
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
                if (const auto answer = parse(declare(settings), command, arguments)) {
                  print_answer(*answer);
                  return ExitCode::ok;
                }
                if constexpr (RunsOnRanks<Settings>)
                  return execute(settings);
                else
                  return run_alone([&] { return execute(settings); });
              }};
}

}  // namespace causeway
