#include "src/cli/program.hpp"

#include <fmt/ranges.h>

#include <vector>

#include "src/cli/command.hpp"
#include "src/cli/exit_codes.hpp"
#include "src/cli/launch.hpp"
#include "src/cli/suggest.hpp"
#include "src/cli/version.hpp"
#include "src/output/safe_text.hpp"
#include "src/output/standard_streams.hpp"

namespace causeway {
namespace {

constexpr std::string_view about =
    "Causeway trains and scores sequence models on packed documents that are too long for one device: every pack is "
    "divided over MPI ranks.";

std::string overview() {
  std::string text = fmt::format("usage: causeway COMMAND [options]\n\n{}\n\nCommands:\n", about);
  for (const Command& command : commands()) text += fmt::format("  {:<12}{}\n", command.name, command.summary);
  text += fmt::format("  {:<12}{}\n", "help", "print the help of a command, as COMMAND --help does");
  text +=
      "\nEvery option can also be set in an INI file (--config FILE).\n\n"
      "Also:\n"
      "  --help                 print this text\n"
      "  --version              print the version and how the program was built\n"
      "  --man                  print a man page (roff)\n"
      "  --completion bash|zsh  print a script that completes commands, options and values in that shell\n"
      "\nExit codes, the same on every rank:\n";
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
      ".B causeway\nCOMMAND [options]\n.SH DESCRIPTION\n{}\n.PP\nEvery option can also be set in an INI file, under "
      "the same name (\\-\\-config FILE). The command line overrides the file. \\-\\-print\\-config prints such a "
      "file, \\-\\-help the options of a command.\n"
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
  if (rank == 0) write_result(safe_lines(text));
}

ExitCode print_alone(std::string_view text, std::string_view command, std::span<const std::string> arguments) {
  std::vector<std::string_view> words(arguments.begin(), arguments.end());
  words.insert(words.begin(), command);
  return run_alone(fmt::format("{}", fmt::join(words, " ")), [&] {
    print_answer(text);
    return ExitCode::ok;
  });
}

namespace {

const Command& find_command(std::string_view word) {
  std::vector<std::string> names = {"help"};
  for (const Command& command : commands()) {
    if (command.name == word) return command;
    names.emplace_back(command.name);
  }
  fail(ExitCode::usage, "unknown command '{}'{}; see 'causeway --help'", word, command_hint(word, names));
}

const std::string help_option = "--help";

/// `causeway help` and `causeway help COMMAND`.
ExitCode help(const std::string& word, std::span<const std::string> words) {
  require(words.size() <= 1, "help takes one command, found {}", words.size());
  if (words.empty() || words.front() == "help") return print_alone(overview(), word, words);
  const Command& command = find_command(words.front());
  return command.run(command.name, std::span(&help_option, 1));
}

ExitCode completion(const std::string& word, std::span<const std::string> words) {
  require(words.size() == 1, "--completion takes one shell: bash or zsh");
  return print_alone(completion_script(words.front()), word, words);
}

}  // namespace

ExitCode run_program(std::span<const std::string> arguments) {
  require(!arguments.empty(), "no command given; see 'causeway --help'");
  const std::string& word = arguments.front();
  const std::span<const std::string> rest = arguments.subspan(1);
  if (word == "--help" || word == "-h") return print_alone(overview(), word, rest);
  if (word == "help") return help(word, rest);
  if (word == "--version" || word == "version") return print_alone(version(), word, rest);
  if (word == "--man") return print_alone(manual(), word, rest);
  if (word == "--completion") return completion(word, rest);
  const Command& command = find_command(word);
  const bool asks_for_help = rest.size() == 1 && rest.front() == "-h";
  return command.run(command.name, asks_for_help ? std::span(&help_option, 1) : rest);
}

}  // namespace causeway
