/// `causeway watch` as a program, with a terminal and without one.

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <filesystem>

#include "tests/src/pseudo_terminal.hpp"
#include "tests/src/shell.hpp"

namespace causeway::test {
namespace {

using testing::TemporaryFolder;

constexpr const char* hide_cursor = "\033[?25l";
constexpr const char* show_cursor = "\033[?25h";
constexpr const char* other_screen = "\033[?1049h";
constexpr const char* first_screen = "\033[?1049l";

std::string line_of(int step) {
  return fmt::format("{{\"step\":{},\"loss\":{},\"tokens\":64,\"step_s\":0.25}}\n", step, 1 + 1.0 / step);
}

/// A run directory with ten completed steps.
std::string write_run(const TemporaryFolder& folder) {
  const std::string run = folder / "run";
  std::filesystem::create_directory(run);
  for (int step = 1; step <= 10; ++step) std::ofstream(run + "/metrics.jsonl", std::ios::app) << line_of(step);
  return run;
}

TEST(Watch, RestoresTheTerminalHoweverItEnds) {
  const TemporaryFolder folder;
  const std::string run = write_run(folder);
  for (const std::string how : {"q", "\x03", "TERM", "HUP"}) {
    PseudoTerminal terminal("@causeway watch " + run + " --no-color", 80, 24);
    const tcflag_t before = terminal.mode().c_lflag;
    ASSERT_TRUE(terminal.shows("running")) << terminal.written();
    EXPECT_TRUE(terminal.shows(hide_cursor) && terminal.shows(other_screen));
    EXPECT_EQ(terminal.mode().c_lflag & (ICANON | ECHO), 0u);
    if (how == "TERM" || how == "HUP")
      terminal.signal(how == "TERM" ? SIGTERM : SIGHUP);
    else
      terminal.type(how);
    EXPECT_EQ(terminal.wait(), 0) << how;
    EXPECT_EQ(terminal.mode().c_lflag, before) << how;
    const auto last = [&](const char* text) {
      const std::size_t at = terminal.written().rfind(text);
      EXPECT_NE(at, std::string::npos) << how << ": " << terminal.written();
      return at;
    };
    EXPECT_LT(last(hide_cursor), last(show_cursor)) << how;
    EXPECT_LT(last(other_screen), last(first_screen)) << how;
    EXPECT_GT(last("step     10"), last(first_screen)) << "the last frame stays";
  }
}

TEST(Watch, DrawsChangedLinesFollowsTheSizeAndEndsWithTheRun) {
  const TemporaryFolder folder;
  const std::string run = write_run(folder);
  PseudoTerminal terminal("@causeway watch " + run + " --interval 0.05 --no-color", 80, 24);
  ASSERT_TRUE(terminal.shows("1.1000")) << terminal.written();
  terminal.forget();
  std::ofstream(run + "/metrics.jsonl", std::ios::app) << line_of(12);
  ASSERT_TRUE(terminal.shows("step     12")) << terminal.written();
  EXPECT_EQ(terminal.written().find("causeway"), std::string::npos) << "a line that has not changed is not sent again";
  terminal.forget();
  terminal.resize(70, 5);
  ASSERT_TRUE(terminal.shows("\033[2J")) << terminal.written();
  ASSERT_TRUE(terminal.shows("step     12")) << terminal.written();
  EXPECT_EQ(terminal.written().find("\033[6;1H"), std::string::npos);
  folder.write("run/exit.json", R"({"exit_code": 75, "reason": "checkpointed", "step": 12})");
  EXPECT_EQ(terminal.wait(), 0);
  EXPECT_NE(terminal.written().find("ended with 75"), std::string::npos);
}

TEST(Watch, WorksWithoutAKeyboardAndOnADumbTerminal) {
  const TemporaryFolder folder;
  const std::string run = write_run(folder);
  PseudoTerminal deaf("@causeway watch " + run + " </dev/null", 80, 24);
  ASSERT_TRUE(deaf.shows("running"));
  deaf.signal(SIGTERM);
  EXPECT_EQ(deaf.wait(), 0);
  PseudoTerminal dumb("@causeway watch " + run + " --interval 0.05", 80, 24, "dumb");
  ASSERT_TRUE(dumb.shows("step 10  loss 1.1000"));
  std::ofstream(run + "/metrics.jsonl", std::ios::app) << line_of(11);
  ASSERT_TRUE(dumb.shows("step 11"));
  dumb.type("\x03");
  EXPECT_EQ(dumb.wait(), 0);
  EXPECT_EQ(dumb.written().find('\033'), std::string::npos);
}

TEST(Watch, ShowsARunWhileItTrainsAndAfterItsEnd) {
  const TemporaryFolder folder;
  folder.write("text.txt", std::string(3000, 'A') + std::string(3000, 'C'));
  ASSERT_EQ(shell(folder, "@causeway import text.txt --out data.h5").exit, 0);
  const std::string script = expanded(
      "@causeway train --data data.h5 --run run --width 8 --state 4 --pack-tokens 64 --steps 1000000 2>/dev/null & "
      "pid=$!\n"
      "until grep -qs '\"step\":5,' run/metrics.jsonl; do kill -0 $pid || exit 9; sleep 0.02; done\n"
      "@causeway watch run --once || exit 8\n"
      "kill -TERM $pid; wait $pid\n"
      "@causeway watch run\n");
  const Outcome outcome = shell(folder, "sh " + folder.write("script", script));
  ASSERT_EQ(outcome.exit, 0) << outcome.err;
  const std::size_t second = outcome.out.rfind("causeway run");
  const std::string during = outcome.out.substr(0, second), after = outcome.out.substr(second);
  EXPECT_TRUE(during.starts_with("causeway run  running\n")) << during;
  for (const char* part : {"mamba", "of 1,000,000", "loss     ", "tokens/s", "computing"})
    EXPECT_NE(during.find(part), std::string::npos) << part;
  EXPECT_NE(after.find("ended with 75: stopped by a signal: start it again"), std::string::npos) << after;
  EXPECT_NE(after.find("saved    step"), std::string::npos) << after;
  EXPECT_EQ(outcome.out.find('\033'), std::string::npos);
}

TEST(Watch, RefusesWrongOptions) {
  const TemporaryFolder folder;
  struct Row {
    std::string arguments, error;
  };
  for (const Row& row :
       {Row{"", "--run is missing"}, Row{"absent", "absent: no such folder; --follow waits for it"},
        Row{"absent --once --follow", "absent: no such folder"}, Row{". --interval 0", "--interval is 0"},
        Row{". --interval nan", "--interval is"}, Row{". --symbols dots", "dots"}}) {
    const Outcome outcome = shell(folder, "@causeway watch " + row.arguments);
    EXPECT_EQ(outcome.exit, 2) << row.arguments;
    EXPECT_NE(outcome.err.find(row.error), std::string::npos) << row.arguments << "\n" << outcome.err;
  }
}

TEST(Watch, ShowsAnotherDirectoryAsARunWithoutSteps) {
  const TemporaryFolder folder;
  for (const char* name : {"metrics.jsonl", "exit.json.x", "environment.json", "ranks.txt"})
    folder.write(name, std::string(1000, '\xfe'));
  std::filesystem::create_symlink("step-99999999999999999999", folder / "latest");
  ASSERT_EQ(shell(folder, "mkfifo pipe").exit, 0);
  std::filesystem::create_symlink("pipe", folder / "exit.json");
  const Outcome outcome = shell(folder, "@causeway watch .");
  EXPECT_EQ(outcome.exit, 0);
  EXPECT_EQ(outcome.out, "causeway .  no step yet\n");
}

}  // namespace
}  // namespace causeway::test
