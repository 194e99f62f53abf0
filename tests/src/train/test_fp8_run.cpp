/// `--fp8` through the program: what runs, checkpoints and scores record of it.

#include <gtest/gtest.h>

#include <string>

#include "io/hdf5/hdf5.hpp"
#include "tests/src/shell.hpp"
#include "tests/src/small_dataset.hpp"

namespace causeway::test {
namespace {

using testing::TemporaryFolder;

const std::string train =
    "@causeway train --data data.h5 --layers 'se mamba' --width 8 --heads 2 --ffn 6 --state 4 --pack-tokens 64 "
    "--transport local --dtype bf16 --checkpoint-every 2 --learning-rate-floor 1 ";

TEST(Fp8Run, ResumesToTheBitWithItsOwnLevelOnly) {
  const TemporaryFolder folder;
  write_small_dataset(folder / "data.h5");
  ASSERT_EQ(shell(folder, train + "--fp8 all --run whole --steps 4").exit, 0);
  ASSERT_EQ(shell(folder, train + "--fp8 all --run part --steps 2").exit, 0);
  for (const char* other : {"--fp8 off", "--fp8 projections"}) {
    const Outcome refused = shell(folder, train + "--run part --steps 4 --resume auto " + other);
    EXPECT_EQ(refused.exit, 2);
    EXPECT_NE(refused.err.find("trained with --fp8 all"), std::string::npos) << refused.err;
  }
  const Outcome resumed = shell(folder, "@causeway train --config part/config.ini --steps 4 --resume auto");
  ASSERT_EQ(resumed.exit, 0) << resumed.err;
  const Outcome same = shell(folder, "h5diff whole/step-4/shard-00000.h5 part/step-4/shard-00000.h5");
  EXPECT_EQ(same.exit, 0) << same.out;
  ASSERT_EQ(shell(folder, train + "--fp8 off --run off --steps 4").exit, 0);
  EXPECT_NE(shell(folder, "h5diff whole/step-4/shard-00000.h5 off/step-4/shard-00000.h5").exit, 0);
  EXPECT_EQ(shell(folder, train + "--init-from part --run other --steps 1").exit, 0);  // a new run has its own level
}

TEST(Fp8Run, ScoringAndGeneratingWarnBelowTheLevelOfTraining) {
  const TemporaryFolder folder;
  write_small_dataset(folder / "data.h5");
  ASSERT_EQ(shell(folder, train + "--fp8 projections --run run --steps 2").exit, 0);
  const std::string score = "@causeway score --checkpoint run --data data.h5 --transport local --out ",
                    generate = "@causeway generate --checkpoint run --prompt A --tokens 1 ", warns = "--fp8 is off";
  const auto says = [&](const std::string& command, bool warned) {
    const Outcome outcome = shell(folder, command);
    EXPECT_EQ(outcome.exit, 0) << outcome.err;
    EXPECT_EQ(outcome.err.find(warns) != std::string::npos, warned) << command << outcome.err;
  };
  says(score + "off.h5", true);
  says(score + "projections.h5 --fp8 projections", false);
  says(score + "all.h5 --fp8 all", false);
  says(generate, true);
  says(generate + "--fp8 projections", false);
  const auto scores = [&](const std::string& name) { return hdf5::File::open(folder / name, hdf5::Access::read); };
  EXPECT_FALSE(scores("off.h5").has_attribute("fp8"));
  EXPECT_EQ(scores("all.h5").string_attribute("fp8"), "all");
  EXPECT_NE(shell(folder, "h5diff off.h5 all.h5 /token/log_likelihood /token/log_likelihood").exit, 0);
  // Conversions keep it.
  ASSERT_EQ(shell(folder, "@causeway convert run --to causeway --out copy").exit, 0);
  says("@causeway score --checkpoint copy --data data.h5 --transport local --out copy.h5", true);
}

}  // namespace
}  // namespace causeway::test
