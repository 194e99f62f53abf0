/// `--shard` through the program: the same files at every level, resumed at every other one, after kills and faults
/// too.

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "tests/src/run_results.hpp"
#include "tests/src/shell.hpp"
#include "tests/src/small_dataset.hpp"

namespace causeway::test {
namespace {

using testing::TemporaryFolder;

constexpr const char* levels[] = {"optimizer", "gradients", "parameters"};

/// Sizes that three ranks do not divide; packs that two data groups do not divide; gradients that are clipped.
std::string train(const std::string& run, const std::string& level, const std::string& more) {
  return fmt::format(
      "@causeway train --data data.h5 --valid-data data.h5 --eval-every 4 --model mamba-tiny --width 8 --state 4 "
      "--layers-count 3 --pack-tokens 64 --steps 8 --checkpoint-every 2 --clip 0.1 --learning-rate 3e-3 "
      "--strategy causal_conv=halo,selective_scan=state_carry --run {} --shard {} {}",
      run, level, more);
}

std::string manifest(const TemporaryFolder& folder, const std::string& checkpoint) {
  return testing::bytes_of(folder / (checkpoint + "/manifest.json"));  // with the hash of every file
}

TEST(Shards, EveryLevelWritesTheSameFilesAndResumesEveryOther) {
  const TemporaryFolder folder;
  write_small_dataset(folder / "data.h5");
  for (const std::string options :
       {"--ranks 3 --accumulate 2 --untied-head", "--ranks 2 --recompute --dtype bf16 --gradient-dtype bf16",
        "--ranks 4 --data-parallel 2 --dtype f64 --seed 3"}) {
    std::filesystem::remove_all(folder / "optimizer");
    ASSERT_EQ(shell(folder, train("optimizer", "optimizer", options)).exit, 0);
    for (const std::string first : levels)
      for (const std::string second : levels) {
        std::filesystem::remove_all(folder / "run");
        ASSERT_EQ(shell(folder, train("run", first, options)).exit, 0) << options;
        EXPECT_EQ(results(folder / "run"), results(folder / "optimizer")) << options << first;
        EXPECT_EQ(manifest(folder, "run/step-8"), manifest(folder, "optimizer/step-8")) << options << first;
        std::filesystem::remove_all(folder / "run/step-8");
        const Outcome resumed = shell(folder, train("run", second, options + " --resume auto"));
        ASSERT_EQ(resumed.exit, 0) << resumed.err;
        EXPECT_EQ(results(folder / "run"), results(folder / "optimizer")) << options << first << second;
        EXPECT_EQ(manifest(folder, "run/step-8"), manifest(folder, "optimizer/step-8")) << options << first << second;
      }
  }
}

TEST(Shards, AnotherTypeOfTravellingGradientsIsNotedOnResuming) {
  const TemporaryFolder folder;
  write_small_dataset(folder / "data.h5");
  ASSERT_EQ(shell(folder, train("run", "gradients", "--ranks 2 --gradient-dtype bf16")).exit, 0);
  EXPECT_NE(testing::bytes_of(folder / "run/config.ini").find("gradient-dtype = bf16"), std::string::npos);
  std::filesystem::remove_all(folder / "run/step-8");
  const Outcome resumed = shell(folder, train("run", "gradients", "--ranks 2 --resume auto"));
  EXPECT_EQ(resumed.exit, 0) << resumed.err;
  EXPECT_NE((resumed.out + resumed.err).find("--gradient-dtype f32, before bf16"), std::string::npos) << resumed.err;
}

TEST(Shards, AKilledRunResumesAtAnotherLevel) {
  const TemporaryFolder folder;
  write_small_dataset(folder / "data.h5");
  const std::string kill = " --inject-fault kill:step=6,rank=1,phase=backward,layer=1";
  ASSERT_EQ(shell(folder, "@mpirun -n 3 " + train("whole", "parameters", "")).exit, 0);
  EXPECT_NE(shell(folder, "@mpirun -n 3 " + train("run", "parameters", kill)).exit, 0);
  // The checkpoint of step 4 is written in the background; it began when that of step 2 was complete.
  ASSERT_TRUE(std::filesystem::exists(folder / "run/step-2"));
  const Outcome resumed = shell(folder, "@mpirun -n 3 " + train("run", "gradients", "--resume auto"));
  ASSERT_EQ(resumed.exit, 0) << resumed.err;
  EXPECT_EQ(results(folder / "run"), results(folder / "whole"));
  EXPECT_EQ(manifest(folder, "run/latest"), manifest(folder, "whole/latest"));
}

TEST(Shards, TheFirstValueThatIsNotFiniteIsFoundAtEveryLevel) {
  const TemporaryFolder folder;
  write_small_dataset(folder / "data.h5");
  for (const std::string level : levels)
    for (const std::string phase : {"forward", "backward"}) {
      const Outcome outcome =
          shell(folder, train(level + phase, level,
                              fmt::format("--ranks 3 --inject-fault nan:step=2,rank=1,phase={},layer=1", phase)));
      EXPECT_EQ(outcome.exit, 70) << outcome.err;
      EXPECT_NE(outcome.err.find("rank 1 of 3"), std::string::npos) << outcome.err;
    }
}

TEST(Shards, ScoringWithShardedWeightsGivesTheSameFile) {
  const TemporaryFolder folder;
  write_small_dataset(folder / "data.h5");
  ASSERT_EQ(shell(folder, train("run", "optimizer", "--ranks 1")).exit, 0);
  // Two data groups: in the last round one has no pack.
  const std::string score =
      "@causeway score --transport local --ranks 4 --data-parallel 2 --checkpoint run --data data.h5 --pack-tokens 100 "
      "--strategy causal_conv=halo,selective_scan=state_carry --reverse-complement ";
  ASSERT_EQ(shell(folder, score + "--out whole.h5").exit, 0);
  const Outcome outcome = shell(folder, score + "--out shards.h5 --shard parameters");
  ASSERT_EQ(outcome.exit, 0) << outcome.err;
  EXPECT_EQ(testing::bytes_of(folder / "shards.h5"), testing::bytes_of(folder / "whole.h5"));
}

TEST(Shards, SeveralRanksGenerateTogetherWhatOneGenerates) {
  const TemporaryFolder folder;
  write_small_dataset(folder / "data.h5");
  ASSERT_EQ(shell(folder, train("run", "optimizer", "--ranks 1")).exit, 0);
  for (const std::string form :
       {"--prompt AAB --alphabet ABCD", "--prompt AAB --samples 3 --alphabet ABCD --temperature 0.9"}) {
    const std::string generate = "@causeway generate --checkpoint run --tokens 30 " + form;
    const Outcome one = shell(folder, generate), alone = shell(folder, "@mpirun -n 3 " + generate),
                  three = shell(folder, "@mpirun -n 3 " + generate + " --shard parameters"),
                  threads = shell(folder, generate + " --shard parameters --transport local --ranks 2");
    ASSERT_EQ(one.exit, 0) << one.err;
    ASSERT_EQ(three.exit, 0) << three.err;
    EXPECT_EQ(three.out, one.out);
    EXPECT_EQ(threads.out, one.out) << threads.err;
    EXPECT_EQ(alone.exit, 2);
    EXPECT_NE(alone.err.find("generate runs on one rank, found 3 ranks; with --shard parameters"), std::string::npos)
        << alone.err;
  }
}

TEST(Shards, WrongValuesAreNamed) {
  const TemporaryFolder folder;
  write_small_dataset(folder / "data.h5");
  const auto error = [&](const std::string& level, const std::string& options) {
    const Outcome outcome = shell(folder, train("run", level, options));
    EXPECT_EQ(outcome.exit, 2);
    return outcome.err;
  };
  EXPECT_NE(error("all", "").find("--shard is 'all', expected optimizer, gradients, parameters"), std::string::npos);
  EXPECT_NE(
      error("gradients", "--keep-blocks 2").find("--keep-blocks is 2, but --shard is gradients, expected parameters"),
      std::string::npos);
}

}  // namespace
}  // namespace causeway::test
