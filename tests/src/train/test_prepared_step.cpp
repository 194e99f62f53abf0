/// While the device computes a step the host prepares the next one. What it takes and finds then belongs to that next
/// step.

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "io/checkpoint/checkpoint_folders.hpp"
#include "io/data/dataset_writer.hpp"
#include "io/hdf5/hdf5.hpp"
#include "tests/src/run_results.hpp"
#include "tests/src/shell.hpp"

namespace causeway::test {
namespace {

using testing::TemporaryFolder;

/// Documents of 64 tokens, a pack each, of which all but the first `good` have a token that cannot be.
void write_documents(const std::string& path, int good) {
  DatasetWriter writer(path, 256, "test");
  for (int d = 0; d < 8; ++d) {
    writer.begin_document(fmt::format("document {}", d));
    std::vector<std::int32_t> tokens(64, 65 + d % 4);
    if (d >= good) tokens[50] = 200;
    writer.append(tokens, {});
  }
  writer.finish();
  hdf5::File::open(path, hdf5::Access::update).set_attribute("vocabulary_size", std::int64_t{128});
}

const std::string train =
    "@causeway train --data data.h5 --model mamba-tiny --width 8 --state 4 --pack-tokens 64 --transport local "
    "--checkpoint-every 1 --keep-last 99 ";

TEST(PreparedStep, AnErrorInItsDataComesAfterTheStepBeforeIsSaved) {
  for (const std::string ranks : {"--ranks 1 ", "--ranks 2 --loss-normalisation pack "}) {
    const TemporaryFolder folder;
    write_documents(folder / "data.h5", 4);
    // The order of the documents is that of the seed: find the first step that meets a bad one.
    std::int64_t steps = 1;
    while (steps < 8 && shell(folder, train + ranks + fmt::format("--steps {} --run tried{}", steps, steps)).exit == 0)
      ++steps;
    ASSERT_GT(steps, 1) << "another seed is needed: the first document is a bad one";
    const Outcome outcome = shell(folder, train + ranks + "--steps 20 --run run");
    EXPECT_EQ(outcome.exit, 65) << outcome.err;
    EXPECT_NE(outcome.err.find("expected less than vocabulary_size 128"), std::string::npos) << outcome.err;
    EXPECT_EQ(std::ssize(metrics(folder / "run")), steps - 1);
    EXPECT_GE(published_steps(folder / "run").front(), steps - 2) << "that of the last step is written meanwhile";
  }
}

TEST(PreparedStep, ACheckpointHasTakenThePacksOfItsOwnStepsOnly) {
  const TemporaryFolder folder;
  write_documents(folder / "data.h5", 8);
  for (const std::string options : {"--ranks 1 ", "--ranks 2 --data-parallel 2 --accumulate 3 "}) {
    std::filesystem::remove_all(folder / "whole");
    std::filesystem::remove_all(folder / "parts");
    ASSERT_EQ(shell(folder, train + options + "--steps 7 --run whole").exit, 0);
    ASSERT_EQ(shell(folder, train + options + "--steps 7 --run parts --inject-fault usr1:step=3").exit, 75);
    ASSERT_EQ(shell(folder, train + options + "--steps 7 --run parts --resume auto").exit, 0);
    EXPECT_EQ(results(folder / "parts"), results(folder / "whole"));
    // From the only checkpoint, which was written while the next step was prepared already.
    for (const int step : {1, 2, 3, 4, 6, 7}) std::filesystem::remove_all(folder / fmt::format("parts/step-{}", step));
    ASSERT_EQ(shell(folder, train + options + "--steps 7 --run parts --resume auto").exit, 0);
    EXPECT_EQ(results(folder / "parts"), results(folder / "whole"));
    EXPECT_EQ(weights_and_moments(folder / "parts"), weights_and_moments(folder / "whole"));
  }
}

}  // namespace
}  // namespace causeway::test
