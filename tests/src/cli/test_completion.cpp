/// The completion scripts of bash and zsh, run in those shells.

#include <gtest/gtest.h>

#include <algorithm>
#include <sstream>

#include "src/cli/command.hpp"
#include "tests/src/shell.hpp"

namespace causeway::test {
namespace {

using testing::TemporaryFolder;
using Words = std::vector<std::string>;

Words sorted(Words words) {
  std::ranges::sort(words);
  return words;
}

/// Completes one command line after another in one bash; the script is sourced once.
class Bash {
 public:
  /// The content of COMPREPLY for each of `lines`. Words are divided as bash divides them: at blanks, '=' and ':'.
  std::vector<Words> complete(const std::vector<std::string>& lines) const {
    std::string script = "source <(@causeway --completion bash)\ncomplete_words() {\n  COMP_WORDS=(\"$@\")\n";
    script += "  COMP_CWORD=$(($# - 1))\n  _causeway\n  echo \"${COMPREPLY[*]}\"\n}\n";
    for (const std::string& line : lines) script += "complete_words " + line + "\n";
    folder_.write("complete.bash", expanded(script));
    const Outcome outcome = shell(folder_, "bash complete.bash");
    EXPECT_EQ(outcome.exit, 0) << outcome.err;
    EXPECT_EQ(outcome.err, "");
    std::vector<Words> replies;
    std::istringstream text(outcome.out);
    for (std::string line; std::getline(text, line);) {
      std::istringstream words(line);
      Words reply;
      for (std::string word; words >> word;) reply.push_back(word);
      replies.push_back(sorted(reply));
    }
    EXPECT_EQ(replies.size(), lines.size()) << outcome.out;
    replies.resize(lines.size());
    return replies;
  }

  const TemporaryFolder& folder() const { return folder_; }

 private:
  TemporaryFolder folder_;
};

TEST(Completion, BashCompletesCommandsOptionsValuesAndFiles) {
  const Bash bash;
  bash.folder().write("data.h5", "");
  bash.folder().write("run.ini", "");
  std::filesystem::create_directory(bash.folder() / "runs");
  struct Row {
    std::string line;  ///< the words so far, quoted for bash; the last one is being typed
    Words reply;
  };
  const Row table[] = {
      {"causeway tr", {"train"}},
      {"causeway he", {"help"}},
      {"causeway --ver", {"--version"}},
      {"causeway help wat", {"watch"}},
      {"causeway --completion ''", {"bash", "zsh"}},
      {"causeway train --dt", {"--dt-rank", "--dtype"}},
      {"causeway train --recompute --keep-l", {"--keep-last"}},
      {"causeway train --dtype ''", {"bf16", "f32", "f64"}},
      {"causeway train --dtype = f", {"f32", "f64"}},
      {"causeway train --dtype =", {"bf16", "f32", "f64"}},
      {"causeway train --layout z", {"zigzag"}},
      {"causeway train --model mamba-t", {"mamba-tiny"}},
      {"causeway train --data da", {"data.h5"}},
      {"causeway train --config = run.", {"run.ini"}},
      {"causeway train --run ''", {"runs"}},
      {"causeway train --resume ''", {"auto", "runs"}},
      {"causeway train --steps ''", {}},
      {"causeway train --strategy attention = ri", {"ring"}},
      {"causeway train --strategy hyena_li = fft,attention = ri", {"ring"}},
      {"causeway train --strategy hyena_li = fft,attention=al",
       {"fft,attention=all_gather", "fft,attention=all_to_all"}},
      {"causeway import da", {"data.h5"}},
      {"causeway watch r", {"runs"}},
      {"causeway op selective", {"selective_scan"}},
      {"causeway op attention --strategy ri", {"ring"}},
      {"causeway bench check", {"checkpoint"}},
      {"causeway nonsense --dt", {}},
      {"causeway split ''", {"complete.bash", "data.h5", "run.ini", "runs", "stderr", "stdout"}},
  };
  std::vector<std::string> lines;
  for (const Row& row : table) lines.push_back(row.line);
  const std::vector<Words> replies = bash.complete(lines);
  for (std::size_t i = 0; i < std::size(table); ++i) EXPECT_EQ(replies[i], sorted(table[i].reply)) << table[i].line;
}

TEST(Completion, BashOffersEveryOptionOfEveryCommandAndEveryChoice) {
  const Bash bash;
  std::vector<std::string> lines;
  std::vector<Words> expected;
  for (const Command& command : commands())
    command.describe([&](const CommandLine& line) {
      Words options = {"--config", "--help", "--print-config"};
      for (const OptionGroup& group : line.groups)
        for (const Option& option : group.options) {
          options.push_back("--" + option.name);
          if (option.choices.empty()) continue;
          lines.push_back(fmt::format("causeway {} --{} ''", command.name, option.name));
          expected.push_back(sorted(option.choices));
        }
      lines.push_back(fmt::format("causeway {} --", command.name));
      expected.push_back(sorted(options));
    });
  const std::vector<Words> replies = bash.complete(lines);
  for (std::size_t i = 0; i < lines.size(); ++i) EXPECT_EQ(replies[i], expected[i]) << lines[i];
}

TEST(Completion, ZshParsesItsScript) {
  const TemporaryFolder folder;
  ASSERT_EQ(shell(folder, "@causeway --completion zsh").exit, 0);
  folder.write("_causeway", testing::bytes_of(folder / "stdout"));
  if (shell(folder, "sh -c 'command -v zsh'").exit != 0) GTEST_SKIP() << "zsh is not installed";
  const Outcome outcome = shell(folder, "zsh -n _causeway");
  EXPECT_EQ(outcome.exit, 0) << outcome.err;
  EXPECT_EQ(outcome.err, "");
  // The completion system takes the file: its first line names the program.
  const Outcome loaded =
      shell(folder, "zsh -f -c 'fpath=($PWD $fpath); autoload -Uz compinit; compinit -u -D; print $_comps[causeway]'");
  EXPECT_EQ(loaded.out, "_causeway\n") << loaded.err;
}

TEST(Completion, OnlyTwoShellsAreKnown) {
  const TemporaryFolder folder;
  EXPECT_EQ(shell(folder, "@causeway --completion fish").exit, 2);
  EXPECT_EQ(shell(folder, "@causeway --completion").exit, 2);
}

}  // namespace
}  // namespace causeway::test
