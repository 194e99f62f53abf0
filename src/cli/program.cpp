#include "src/cli/program.hpp"

#include <fmt/format.h>

#include <cstdio>
#include <vector>

#include "src/cli/command.hpp"
#include "src/cli/exit_codes.hpp"
#include "src/cli/launch.hpp"
#include "src/cli/version.hpp"

namespace causeway {
namespace {

constexpr std::string_view about =
    "Causeway trains and scores sequence models on packed documents too long for one device, their context cut over "
    "MPI ranks.";

std::string overview() {
  std::string text = fmt::format("usage: causeway COMMAND [options]\n\n{}\n\nCommands:\n", about);
  for (const Command& command : commands()) text += fmt::format("  {:<12}{}\n", command.name, command.summary);
  text +=
      "\n'causeway COMMAND --help' teaches a command. Every option may stand in an INI file (--config FILE).\n"
      "Also: causeway --help, causeway --version, causeway --man (a man page in roff).\n\nExit codes, the same on "
      "every rank:\n";
  for (const ExitCodeRow& row : exit_codes())
    text += fmt::format("  {:<4}{}\n", static_cast<int>(row.code), row.meaning);
  return text;
}

std::string version() {
  std::string text;
  for (const BuildFact& fact : build_facts()) {
    if (fact.value.empty()) continue;
    text += fact.name == "version" ? fmt::format("causeway {}\n", fact.value)
                                   : fmt::format("  {:<10}{}\n", fact.name, fact.value);
  }
  return text;
}

std::string manual() {
  std::string text = fmt::format(
      ".TH CAUSEWAY 1\n.SH NAME\ncauseway \\- packed long\\-context training over MPI ranks\n.SH SYNOPSIS\n"
      ".B causeway\nCOMMAND [options]\n.SH DESCRIPTION\n{}\n.PP\nEvery option may stand in an INI file of the same "
      "names "
      "(\\-\\-config FILE); the command line wins. \\-\\-print\\-config prints that file, \\-\\-help a command's "
      "options.\n"
      ".SH COMMANDS\n",
      about);
  for (const Command& command : commands())
    command.describe([&](const CommandLine& line) { text += roff_text(line, command.name, command.summary); });
  text += ".SH EXIT STATUS\n";
  for (const ExitCodeRow& row : exit_codes())
    text += fmt::format(".TP\n.B {}\n{}\n", static_cast<int>(row.code), row.meaning);
  return text;
}

}  // namespace

void print_answer(std::string_view text, int rank) {
  if (rank != 0) return;
  const bool written = std::fwrite(text.data(), 1, text.size(), stdout) == text.size() && std::fflush(stdout) == 0;
  if (!written) fail(ExitCode::io, "cannot write to standard output");
}

ExitCode run_alone(const std::function<ExitCode()>& body) {
  try {
    return body();
  } catch (const std::exception& exception) {
    const Error error = error_of(exception);
    throw AgreedError(error.code(), error.what());
  }
}

ExitCode run_program(std::span<const std::string> arguments) {
  require(!arguments.empty(), "no command given; see 'causeway --help'");
  const std::string& word = arguments.front();
  const auto answer = [](std::string_view text) {
    print_answer(text);
    return ExitCode::ok;
  };
  if (word == "--help" || word == "-h" || word == "help") return answer(overview());
  if (word == "--version") return answer(version());
  if (word == "--man") return answer(manual());
  std::vector<std::string> names;
  for (const Command& command : commands()) {
    if (command.name == word) return command.run(command.name, arguments.subspan(1));
    names.emplace_back(command.name);
  }
  fail(ExitCode::usage, "unknown command '{}'{}; see 'causeway --help'", word, did_you_mean(word, names));
}

}  // namespace causeway
