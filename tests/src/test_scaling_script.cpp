/// scripts/slurm/scaling on folders of runs that need no Slurm: `--table` reads only their metrics.jsonl.

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <functional>

#include "tests/src/shell.hpp"

namespace causeway::test {
namespace {

using testing::TemporaryFolder;

/// Makes FOLDER/strong-RANKS with `steps` lines; step s takes seconds(s) for 1,000 tokens.
void make_run(const TemporaryFolder& folder, int ranks, int steps, const std::function<double(int)>& seconds) {
  std::filesystem::create_directories(folder / fmt::format("strong-{}", ranks));
  std::string lines = "{\"step\":0,\"eval_loss\":5.5,\"eval_s\":0.1}\n";
  for (int step = 1; step <= steps; ++step)
    lines += fmt::format("{{\"step\":{},\"loss\":1.5,\"tokens\":1000,\"step_s\":{:e}}}\n", step, seconds(step));
  folder.write(fmt::format("strong-{}/metrics.jsonl", ranks), lines);
}

/// The table of the runs in `folder`, with the script's settings edited as a user would.
Outcome table(const TemporaryFolder& folder, const std::string& ranks, int warm_up) {
  const std::string script = folder / "scaling";
  return shell(folder, fmt::format("sh -c 'sed -e \"s|^FOLDER=.*|FOLDER={}|\" -e \"s|^RANKS=.*|RANKS=({})|\" "
                                   "-e \"s|^WARM_UP=.*|WARM_UP={}|\" {}/scripts/slurm/scaling > {} && bash {} --table'",
                                   folder / "", ranks, warm_up, CAUSEWAY_TEST_SOURCE, script, script));
}

TEST(ScalingScript, CountsTheStepsAfterTheWarmUpByNumber) {
  const TemporaryFolder folder;
  // Only the steps 11 to 100 are fast. As text, "6" to "9" are more than "10", and "100" is less than "11".
  make_run(folder, 1, 100, [](int step) { return step <= 10 ? 100.0 : 1.0; });
  make_run(folder, 2, 100, [](int step) { return step <= 10 ? 100.0 : 0.5; });
  const Outcome outcome = table(folder, "1 2", 10);
  EXPECT_EQ(outcome.exit, 0) << outcome.err;
  EXPECT_NE(outcome.out.find("     1          1000      1.00       100 %     90\n"), std::string::npos) << outcome.out;
  EXPECT_NE(outcome.out.find("     2          2000      2.00       100 %     90\n"), std::string::npos) << outcome.out;
}

TEST(ScalingScript, ComparesWithTheSmallestRunInWhateverOrderTheRunsAreNamed) {
  const TemporaryFolder folder;
  for (const int ranks : {2, 10, 16}) make_run(folder, ranks, 4, [&](int) { return 1.0 / ranks; });
  const Outcome outcome = table(folder, "16 10 2", 1);
  EXPECT_EQ(outcome.exit, 0) << outcome.err;
  const std::size_t two = outcome.out.find("     2          2000      1.00       100 %      3\n"),
                    ten = outcome.out.find("    10         10000      5.00       100 %      3\n"),
                    sixteen = outcome.out.find("    16         16000      8.00       100 %      3\n");
  EXPECT_LT(two, ten) << outcome.out;
  EXPECT_LT(ten, sixteen) << outcome.out;
  EXPECT_NE(sixteen, std::string::npos) << outcome.out;
}

}  // namespace
}  // namespace causeway::test
