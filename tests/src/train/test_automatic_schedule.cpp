/// --schedule auto: a relay by the model's layers and the documents, the same in every run.

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "io/data/dataset_writer.hpp"
#include "io/hdf5/hdf5.hpp"
#include "tests/src/run_results.hpp"
#include "tests/src/shell.hpp"

namespace causeway::test {
namespace {

using testing::TemporaryFolder;

TEST(AutomaticSchedule, IsARelayInEveryRunOfADeepModelWhoseDocumentsAreCutAndAfterResuming) {
  const TemporaryFolder folder;
  DatasetWriter writer(folder / "data.h5", 512, "test");
  for (int d = 0; d < 6; ++d) {
    writer.begin_document(fmt::format("document {}", d));
    std::vector<std::int32_t> tokens(96);
    for (std::size_t i = 0; i < tokens.size(); ++i)
      tokens[i] = static_cast<std::int32_t>(65 + (i * static_cast<std::size_t>(d + 1)) % 7);
    writer.append(tokens, {});
  }
  writer.finish();
  const std::string train =
      "@causeway train --data data.h5 --layers mamba*8 --width 8 --state 4 --pack-tokens 96 --steps 4 --recompute "
      "--checkpoint-every 2 --transport local --ranks 3 --strategy selective_scan=state_carry,causal_conv=halo ";
  for (const std::string options : {"--run auto", "--run again --resume auto/step-2", "--run relay --schedule relay"}) {
    const Outcome outcome = shell(folder, train + options);
    ASSERT_EQ(outcome.exit, 0) << outcome.err;
    if (options == "--run auto") {
      EXPECT_NE(outcome.err.find("schedule auto, 8 layers in one direction"), std::string::npos) << outcome.err;
    }
  }
  EXPECT_EQ(results(folder / "auto"), results(folder / "relay"));
  EXPECT_EQ(weights_and_moments(folder / "auto"), weights_and_moments(folder / "relay"));
  EXPECT_EQ(weights_and_moments(folder / "auto"), weights_and_moments(folder / "again"));
  EXPECT_EQ(Checkpoint(folder / "auto").state().integer_attribute("one_way_layers"), 8);
  ASSERT_EQ(shell(folder, train + "--run chain --schedule chain").exit, 0);
  EXPECT_NE(weights_and_moments(folder / "auto"), weights_and_moments(folder / "chain"))
      << "then this test would not notice which schedule ran";
}

}  // namespace
}  // namespace causeway::test
