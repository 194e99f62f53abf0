#include "src/watch/run_list.hpp"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>

#include "src/output/safe_text.hpp"
#include "tests/src/shell.hpp"

namespace causeway::test {
namespace {

using testing::TemporaryFolder;

constexpr double now = 1'800'000'000;

ListedRun run_at(const std::string& name, std::int64_t step, double seconds_ago) {
  ListedRun run{.name = name, .state = {}};
  StepRecord record{.step = step};
  record.loss = 1.3862943;
  record.step_s = 0.5;
  run.state.history.add(record);
  run.state.setup.steps = 2000;
  run.state.metrics_modified = now - seconds_ago;
  return run;
}

std::string joined(const std::vector<std::string>& lines) {
  std::string text = "\n";
  for (const std::string& line : lines) text += line + "\n";
  return text;
}

TEST(RunList, HasALineForEachRunWithItsState) {
  std::vector<ListedRun> runs = {run_at("a", 12, 3),        run_at("done", 2000, 100),
                                 run_at("full", 7, 90),     run_at("lost", 1234, 7200),
                                 run_at("stopped", 40, 61), {.name = "weights", .state = {}}};
  StepRecord evaluated{.step = 2000};
  evaluated.eval_loss = 1.25;
  runs[1].state.history.add(evaluated);
  runs[1].state.end = RunEnd{.code = 0, .reason = "done"};
  runs[2].state.end = RunEnd{.code = 74, .reason = "no space left on device"};
  runs[4].state.end = RunEnd{.code = 75, .reason = "checkpointed after a signal"};
  EXPECT_EQ(joined(build_run_list("runs", runs, now, {.width = 120, .height = 50, .unicode = false})), R"(
runs: 6 runs (1 running, 1 finished, 1 stopped, 2 failed, 1 unknown)
run      state               step     loss  held-out  last change
a        running      12 of 2,000   1.3863         -  3 s ago
done     finished  2,000 of 2,000        -    1.2500  1 min 40 s ago
full     failed        7 of 2,000   1.3863         -  1 min 30 s ago  74: no space left on device
lost     failed    1,234 of 2,000   1.3863         -  2 h 00 min ago  no changes any more: killed, or host gone
stopped  stopped      40 of 2,000   1.3863         -  1 min 01 s ago  checkpointed after a signal
weights  unknown                -        -         -  -               it has no metrics and no ranks.txt
)");
}

TEST(RunList, ARunWithSlowStepsIsStillRunningAndOneThatOnlyStartedToo) {
  ListedRun slow = run_at("slow", 3, 200);
  slow.state.history = {};
  StepRecord record{.step = 3};
  record.step_s = 60;
  slow.state.history.add(record);
  ListedRun started{.name = "started", .state = {}};
  started.state.ranks.push_back({.rank = 0, .host = "a", .written_at = now - 1});
  for (const std::string& line : build_run_list("runs", std::vector{slow, started}, now, {})) {
    if (line.starts_with("s")) {
      EXPECT_NE(line.find("running"), std::string::npos) << line;
    }
  }
}

TEST(RunList, FitsTheWindowAndShowsWhatChangedLast) {
  std::vector<ListedRun> runs;
  for (int i = 0; i < 300; ++i) runs.push_back(run_at(fmt::format("r{}", i), i, 300 - i));
  for (int height = 1; height < 40; ++height)
    for (const int width : {1, 20, 40, 80}) {
      const auto lines = build_run_list("runs", runs, now, {.width = width, .height = height});
      EXPECT_LE(std::ssize(lines), height);
      for (const std::string& line : lines) EXPECT_LE(columns_of(line), width);
    }
  const auto lines = build_run_list("runs", runs, now, {.width = 80, .height = 6});
  ASSERT_EQ(lines.size(), 6u);
  EXPECT_TRUE(lines[2].starts_with("r297 ")) << joined(lines);
  EXPECT_EQ(lines[5], "and 297 more, which changed earlier");
}

TEST(RunList, ALongNameLeavesRoomForTheOtherColumns) {
  ListedRun run = run_at(std::string(255, 'x'), 12, 3);
  run.state.setup.steps = 100;
  for (const int width : {62, 80, 120}) {
    const std::string all = joined(build_run_list("runs", std::vector{run}, now, {.width = width, .height = 9}));
    for (const char* text : {"running", "12 of 100", "1.3863", "3 s ago"})
      EXPECT_NE(all.find(text), std::string::npos) << width << all;
  }
}

TEST(RunList, HostileNamesAndReasonsArePrintable) {
  ListedRun run = run_at("a\033[2Jb\n\xff" + std::string(10'000, 'x'), 1, 1);
  run.state.end = RunEnd{.code = 1, .reason = "\033]0;owned\a" + std::string(10'000, '\b')};
  for (const bool unicode : {false, true})
    for (const std::string& line :
         build_run_list("r\033uns", std::vector{run}, now, {.width = 300, .unicode = unicode})) {
      EXPECT_EQ(printable(line, unicode), line);
      EXPECT_LE(columns_of(line), 300);
    }
}

TEST(RunList, InspectAndWatchListTheRunsOfAFolder) {
  const TemporaryFolder folder;
  std::filesystem::create_directories(folder / "none/notes");
  for (const char* run : {"runs/r2", "runs/r10", "runs/notes"}) std::filesystem::create_directories(folder / run);
  const std::string line = R"({"step":3,"loss":1.5,"tokens":64,"step_s":0.25,"eval_loss":1.75})";
  for (const char* run : {"runs/r2", "runs/r10"}) folder.write(run + std::string("/metrics.jsonl"), line + "\n");
  folder.write("runs/r10/exit.json", R"({"exit_code": 70, "reason": "the loss is NaN", "step": 3})");
  for (const char* command : {"inspect runs", "inspect runs/", "watch runs --once", "watch ./runs"}) {
    const Outcome outcome = shell(folder, fmt::format("@causeway {}", command));
    EXPECT_EQ(outcome.exit, 0) << command << outcome.err;
    EXPECT_NE(outcome.out.find("2 runs (1 running, 1 failed)"), std::string::npos) << outcome.out;
    const std::size_t two = outcome.out.find("\nr2   running "), ten = outcome.out.find("\nr10  failed ");
    EXPECT_LT(two, ten) << outcome.out;
    EXPECT_NE(ten, std::string::npos) << outcome.out;
    EXPECT_NE(outcome.out.find("70: the loss is NaN"), std::string::npos) << outcome.out;
    EXPECT_EQ(outcome.out.find("notes"), std::string::npos) << outcome.out;
  }
  for (const char* command : {"inspect none", "watch none", "watch none --once", "inspect none/notes"}) {
    const Outcome outcome = shell(folder, fmt::format("@causeway {}", command));
    EXPECT_EQ(outcome.exit, 2) << command;
    EXPECT_NE(outcome.err.find("neither a run nor a checkpoint, and no folder in it is a run"), std::string::npos)
        << outcome.err;
  }
}

}  // namespace
}  // namespace causeway::test
