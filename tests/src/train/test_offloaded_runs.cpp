/// `--offload` through the program: the same files as without it, and errors that say how much is missing.

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "tests/src/run_results.hpp"
#include "tests/src/shell.hpp"
#include "tests/src/small_dataset.hpp"

namespace causeway::test {
namespace {

using testing::TemporaryFolder;

std::string train(const std::string& run, const std::string& options) {
  return fmt::format(
      "@causeway train --data data.h5 --valid-data data.h5 --eval-every 4 --model mamba-tiny --width 8 --state 4 "
      "--layers-count 4 --pack-tokens 64 --steps 8 --checkpoint-every 4 --clip 0.1 --learning-rate 3e-3 --recompute "
      "--strategy causal_conv=halo,selective_scan=state_carry --run {} {}",
      run, options);
}

TEST(OffloadedRuns, WritesTheSameFilesAndResumesWhatDidNotOffload) {
  const TemporaryFolder folder;
  write_small_dataset(folder / "data.h5");
  for (const std::string options : {"--ranks 1 --accumulate 2", "--ranks 3 --shard parameters --dtype bf16"}) {
    std::filesystem::remove_all(folder / "plain");
    ASSERT_EQ(shell(folder, train("plain", options)).exit, 0);
    for (const std::string what : {"optimizer", "activations", "all"}) {
      std::filesystem::remove_all(folder / "run");
      const Outcome outcome = shell(folder, train("run", options + " --recompute-blocks 2 --offload " + what));
      ASSERT_EQ(outcome.exit, 0) << outcome.err;
      EXPECT_EQ(results(folder / "run"), results(folder / "plain")) << options << what;
      std::filesystem::remove_all(folder / "run/step-8");
      ASSERT_EQ(shell(folder, train("run", options + " --resume auto")).exit, 0);
      EXPECT_EQ(results(folder / "run"), results(folder / "plain")) << options << what;
    }
  }
}

TEST(OffloadedRuns, ANonFiniteStepEndsTheRun) {
  const TemporaryFolder folder;
  write_small_dataset(folder / "data.h5");
  const Outcome outcome =
      shell(folder, train("run", "--ranks 2 --offload all --inject-fault nan:step=2,rank=1,phase=backward,layer=1"));
  EXPECT_EQ(outcome.exit, 70) << outcome.err;
}

TEST(OffloadedRuns, TooLittleHostMemoryIsRefusedWithFigures) {
  const TemporaryFolder folder;
  write_small_dataset(folder / "data.h5");
  const Outcome outcome =
      shell(folder,
            "bash -c 'ulimit -v 8388608; exec @causeway train --data data.h5 --run run --model mamba-1.4b "
            "--pack-tokens 64 --steps 1 --recompute --offload all'");
  EXPECT_NE(outcome.exit, 0);
  EXPECT_NE(outcome.err.find("--offload: 1 rank needs "), std::string::npos) << outcome.err;
  EXPECT_NE(outcome.err.find(" of host memory (a rank: optimizer state "), std::string::npos) << outcome.err;
  EXPECT_NE(outcome.err.find(" available"), std::string::npos) << outcome.err;
}

TEST(OffloadedRuns, ActivationsNeedRecomputation) {
  const TemporaryFolder folder;
  const Outcome outcome = shell(folder, "@causeway bench step --model mamba-tiny --tokens 64 --offload activations");
  EXPECT_EQ(outcome.exit, 2);
  EXPECT_NE(outcome.err.find("--offload is activations, but --recompute is missing"), std::string::npos) << outcome.err;
}

}  // namespace
}  // namespace causeway::test
