#include "src/run/resume_command.hpp"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "tests/src/shell.hpp"

namespace causeway::test {
namespace {

using testing::TemporaryFolder;

/// The last line of a text.
std::string last_line(std::string text) {
  while (text.ends_with('\n')) text.pop_back();
  return text.substr(text.rfind('\n') + 1);
}

TEST(ResumeCommand, HarmlessWordsStayAndOthersAreQuoted) {
  EXPECT_EQ(shell_quoted("runs/first-1_a+b=c,d@e:f.ini"), "runs/first-1_a+b=c,d@e:f.ini");
  EXPECT_EQ(shell_quoted(""), "''");
  EXPECT_EQ(shell_quoted("a b"), "'a b'");
  EXPECT_EQ(shell_quoted("it's"), "'it'\\''s'");
  EXPECT_EQ(shell_quoted("~"), "'~'");
  EXPECT_EQ(shell_quoted("a\xff"), "$'a\\377'");
  EXPECT_EQ(shell_quoted("a\xe2\x80\xae"), "$'a\\342\\200\\256'") << "it would change the direction of writing";
  EXPECT_EQ(shell_quoted("caf\xc3\xa9"), "'caf\xc3\xa9'");
  EXPECT_EQ(shell_quoted("a\nb\x1b'\\"), "$'a\\012b\\033\\'\\\\'");
}

TEST(ResumeCommand, AShellReadsQuotedWordsBack) {
  const TemporaryFolder folder;
  const std::string words[] = {"a b",         "it's",        "$HOME `id` $(id)",
                               "\"x\"",       "a\\b",        "*",
                               "~/x",         "#x",          "!x",
                               "a;b&c|d<e>f", "{a,b}",       "-n",
                               "\t tab",      "new\nline\n", "\x1b[",
                               "caf\xc3\xa9", "\xff\xfe",    "'",
                               "\\'",         "=x",          " ",
                               "%s",          "a=b",         "(x)",
                               "[x]",         "x\r",         "\xe2\x80\xae"};
  for (const std::string& word : words) {
    const std::string quoted = shell_quoted(word);
    EXPECT_EQ(quoted.find('\n'), std::string::npos);
    folder.write("script", "printf '%s.' " + quoted + "\n");
    EXPECT_EQ(shell(folder, "bash script").out, word + ".") << quoted;
  }
}

TEST(ResumeCommand, TheLauncherIsTakenAsItWasStarted) {
  using Words = std::vector<std::string>;
  const auto prefix = [](Words command) { return launcher_prefix(command, "causeway", "/home/me"); };
  EXPECT_EQ(prefix({"mpirun", "-n", "4", "causeway", "train", "--run", "causeway"}), (Words{"mpirun", "-n", "4"}));
  EXPECT_EQ(prefix({"/opt/bin/mpiexec", "--hostfile", "my hosts", "-x", "A=b c", "numactl", "-l", "causeway", "train"}),
            (Words{"/opt/bin/mpiexec", "--hostfile", "/home/me/my hosts", "-x", "A=b c", "numactl", "-l"}));
  EXPECT_EQ(prefix({"./mpirun", "-np", "2", "causeway", "train"}), (Words{"/home/me/./mpirun", "-np", "2"}));
  EXPECT_EQ(prefix({"bash", "causeway"}), Words{});
  EXPECT_EQ(prefix({"mpirun", "-n", "4", "sh", "run.sh"}), Words{});
  EXPECT_EQ(prefix({"mpirun", "-n", "1", "causeway", "train", ":", "-n", "2", "causeway", "train"}), Words{});
  EXPECT_EQ(prefix({}), Words{});
}

TEST(ResumeCommand, IsInConfigIniWithTheLauncherOfTheRun) {
  const TemporaryFolder folder;
  folder.write("a.txt", "abcabcabcabcabc");
  ASSERT_EQ(shell(folder, "@causeway import a.txt --out data.h5").exit, 0);
  const Outcome outcome = shell(folder,
                                "@mpirun -n 2 --map-by :OVERSUBSCRIBE @causeway train --data data.h5 --run \"my run\" "
                                "--layers mamba --width 4 --state 2 --pack-tokens 16 --steps 1");
  ASSERT_EQ(outcome.exit, 0) << outcome.err;
  std::ifstream config(folder / "my run/config.ini");
  std::string first, second;
  std::getline(config, first);
  std::getline(config, second);
  EXPECT_EQ(second, expanded("#     @mpirun -n 2 --map-by :OVERSUBSCRIBE @causeway train --config '" +
                             std::filesystem::canonical(folder / "my run").string() + "/config.ini' --resume auto"));
}

/// Ctrl-C in a folder with a name that needs quoting: the last line, run in another folder, trains to the end.
TEST(ResumeCommand, TheLastLineAfterAnInterruptResumesTheRunFromElsewhere) {
  const TemporaryFolder folder;
  const std::string odd = "my run's $(folder)";
  folder.write("a.txt", "abcabcabcabcabc");
  ASSERT_EQ(shell(folder, "@causeway import a.txt --out data.h5").exit, 0);
  for (const char* signal : {"INT", "TERM"}) {
    const std::string run = folder / (signal + odd);
    folder.write("script",
                 fmt::format("rm -f log; @causeway train --data {}/data.h5 --run {} --layers mamba --width 4 --state 2 "
                             "--pack-tokens 16 --steps 2000 --ranks 2 2>log & pid=$!\n"
                             "until grep -qs '^step' log; do sleep 0.02; done; kill -{} $pid; wait $pid",
                             std::filesystem::canonical(folder / "").string(), shell_quoted(run), signal));
    std::ofstream(folder / "expanded") << expanded(testing::bytes_of(folder / "script"));
    ASSERT_EQ(shell(folder, "bash expanded").exit, 75) << testing::bytes_of(folder / "log");
    const std::string log = testing::bytes_of(folder / "log"), command = last_line(log);
    EXPECT_NE(command.find("train --config '"), std::string::npos) << log;
    folder.write("again", "cd / && " + command);
    const Outcome resumed = shell(folder, "bash again");
    EXPECT_EQ(resumed.exit, 0) << command << "\n" << resumed.err;
    EXPECT_NE(resumed.err.find("resumed from"), std::string::npos) << resumed.err;
    EXPECT_TRUE(std::filesystem::exists(run + "/step-2000"));
  }
}

}  // namespace
}  // namespace causeway::test
