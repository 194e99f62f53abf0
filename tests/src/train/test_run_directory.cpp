/// The files that a run writes to its directory, and reading them when their content is not trusted.

#include "src/train/run_directory.hpp"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "src/inspect/run_summary.hpp"
#include "src/run/attempts.hpp"
#include "tests/src/shell.hpp"

namespace causeway::test {
namespace {

using testing::TemporaryFolder;

std::vector<nlohmann::json> lines_of(const std::string& path) {
  std::vector<nlohmann::json> lines;
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) lines.push_back(nlohmann::json::parse(line));
  return lines;
}

TEST(Attempts, AStartIsMatchedWithItsEndAndAKilledOneHasNone) {
  const TemporaryFolder folder;
  const std::string run = folder / "";
  EXPECT_TRUE(read_attempts(run).empty());
  append_start(run, {.started = 1000,
                     .ranks = 4,
                     .data = 2,
                     .context = 2,
                     .hosts = {"a", "b"},
                     .revision = "r1",
                     .slurm_job_id = "7"});
  append_end(run, 1, {.time = "t", .reason = "rank 1 (a): lost", .code = 1, .step = 3, .seconds = 2.5});
  append_end(run, 1, {.time = "t", .reason = "rank 2 (b): its peer is gone", .code = 1});
  append_start(run, {.started = 2000, .resumed_step = 2, .ranks = 2});
  append_start(run, {.started = 3000, .resumed_step = 2, .ranks = 2});
  const std::vector<Attempt> attempts = read_attempts(run);
  ASSERT_EQ(attempts.size(), 3u);
  EXPECT_EQ(attempts[0].end->reason, "rank 1 (a): lost");
  EXPECT_EQ(attempts[0].end->step, 3);
  EXPECT_EQ(attempts[0].hosts, (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(attempts[0].slurm_job_id, "7");
  EXPECT_EQ(attempts[0].time, "1970-01-01T00:16:40.000Z");
  EXPECT_FALSE(attempts[1].end);
  EXPECT_EQ(attempts[2].number, 3);
  EXPECT_EQ(lines_of(folder / "attempts.jsonl")[1]["exit"], "internal");
}

TEST(Attempts, AnIncompleteLineDoesNotAffectTheOthers) {
  const TemporaryFolder folder;
  const std::string run = folder / "";
  append_start(run, {.started = 1000});
  std::ofstream(folder / "attempts.jsonl", std::ios::app) << "{\"event\":\"end\",\"att";
  append_start(run, {.started = 2000});
  ASSERT_EQ(read_attempts(run).size(), 2u);
  EXPECT_EQ(read_attempts(run)[1].number, 2);
  folder.write("attempts.jsonl",
               "\n[]\n{\"event\":7}\n{\"event\":\"end\"}\n{\"event\":\"start\",\"attempt\":\"x\",\"hosts\":[1,{}]}\n" +
                   std::string(100, '[') + "\n\xff\n");
  EXPECT_EQ(read_attempts(run).size(), 1u);
  EXPECT_EQ(run_summary(run).find('\033'), std::string::npos);
}

TEST(Attempts, OnlyARegularFileIsWritten) {
  const TemporaryFolder folder;
  std::filesystem::create_symlink("elsewhere", folder / "attempts.jsonl");
  EXPECT_THROW(append_start(folder / "", {}), Error);
  EXPECT_FALSE(std::filesystem::exists(folder / "elsewhere"));
  EXPECT_THROW(append_start(folder / "absent", {}), Error);
}

TEST(RunDirectory, DescribesARunThatWasKilledAndResumed) {
  const TemporaryFolder folder;
  folder.write("text.txt", std::string(3000, 'A') + std::string(3000, 'C'));
  ASSERT_EQ(shell(folder, "@causeway import text.txt --out data.h5").exit, 0);
  const std::string train =
      "@causeway train --data data.h5 --valid-data data.h5 --eval-packs 1 --run run --width 8 --state 4 --pack-tokens "
      "64 "
      "--steps 8 --checkpoint-every 2 --transport local --ranks 3";
  ASSERT_NE(shell(folder, train + " --inject-fault kill:step=6").exit, 0);
  EXPECT_NE(shell(folder, "@causeway watch run").out.find("causeway run"), std::string::npos);
  ASSERT_EQ(
      shell(folder, "env SLURM_JOB_ID=41 SLURM_RESTART_COUNT=1 @causeway train --config run/config.ini --resume auto")
          .exit,
      0);

  const std::vector<Attempt> attempts = read_attempts(folder / "run");
  ASSERT_EQ(attempts.size(), 2u);
  EXPECT_FALSE(attempts[0].end);
  EXPECT_GE(attempts[1].resumed_step, 2);
  EXPECT_EQ(attempts[1].slurm_job_id, "41");
  ASSERT_TRUE(attempts[1].end);
  EXPECT_EQ(attempts[1].end->code, 0);

  const auto exit = nlohmann::json::parse(testing::bytes_of(folder / "run/exit.json"));
  EXPECT_EQ(exit["exit_code"], 0);
  EXPECT_EQ(exit["exit"], "done");
  EXPECT_EQ(exit["step"], 8);
  EXPECT_EQ(exit["attempt"], 2);
  EXPECT_EQ(exit["resumed_step"], attempts[1].resumed_step);
  EXPECT_GE(exit["seconds"].get<double>(), 0);
  const auto environment = nlohmann::json::parse(testing::bytes_of(folder / "run/environment.json"));
  EXPECT_EQ(environment["mesh"]["ranks"], 3);
  EXPECT_EQ(environment["mesh"]["transport"], "threads");
  EXPECT_EQ(environment["run"]["steps"], 8);
  EXPECT_EQ(environment["variables"]["SLURM_JOB_ID"], "41");
  // README.txt names every file of the directory, and every file that it names exists.
  const std::string readme = testing::bytes_of(folder / "run/README.txt");
  for (const auto& entry : std::filesystem::directory_iterator(folder / "run")) {
    const std::string name = entry.path().filename().string();
    const std::string called = name.starts_with("step-") ? "step-N/" : name;
    EXPECT_TRUE(name == "README.txt" || readme.find(called) != std::string::npos) << name;
  }
  for (const char* name :
       {"config.ini", "environment.json", "metrics.jsonl", "ranks.txt", "attempts.jsonl", "exit.json", "latest"})
    EXPECT_TRUE(std::filesystem::exists(folder / fmt::format("run/{}", name))) << name;
  EXPECT_TRUE(testing::bytes_of(folder / "run/config.ini").starts_with("# "));

  const std::string shown = shell(folder, "@causeway watch run").out;
  EXPECT_NE(shown.find(fmt::format("attempt  2  from step {}  Slurm job 41, restart 1  the previous one was killed",
                                   attempts[1].resumed_step)),
            std::string::npos)
      << shown;
  EXPECT_NE(shown.find("mean computing time / that of rank"), std::string::npos);
  const std::string summary = run_summary(folder / "run");
  EXPECT_NE(summary.find("from the start, 3 ranks"), std::string::npos) << summary;
  EXPECT_NE(summary.find(", killed\n"), std::string::npos) << summary;
  EXPECT_NE(summary.find("  steps         8 of 8"), std::string::npos) << summary;

  const auto lines = lines_of(folder / "run/metrics.jsonl");
  ASSERT_EQ(lines.size(), 9u);  // step 0 is the held-out loss before training
  EXPECT_TRUE(lines.front().contains("eval_loss") && lines.front().contains("eval_s"));
  for (std::size_t step = 1; step < lines.size(); ++step) {
    const nlohmann::json& line = lines[step];
    for (const char* field :
         {"step", "loss", "learning_rate", "grad_norm", "tokens", "tokens_per_s", "step_s", "compute_s",
          "comm_exposed_s", "comm_hidden_s", "bytes_sent", "memory_bytes", "balance", "slowest_rank"})
      ASSERT_TRUE(line.contains(field)) << field;
    EXPECT_EQ(line["step"], step);
    EXPECT_NEAR(line["compute_s"].get<double>() + line["comm_exposed_s"].get<double>(), line["step_s"].get<double>(),
                1e-9);
    EXPECT_GT(line["bytes_sent"], 0);
    EXPECT_GT(line["balance"], 0);
    EXPECT_LE(line["balance"], 1);
    EXPECT_LT(line["slowest_rank"], 3);
  }
}

}  // namespace
}  // namespace causeway::test
