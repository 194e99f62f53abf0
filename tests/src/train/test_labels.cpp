/// Data without labels: a mean over nothing is not 0. Through the program.

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "io/data/dataset_writer.hpp"
#include "tests/src/run_results.hpp"
#include "tests/src/shell.hpp"

namespace causeway::test {
namespace {

using testing::TemporaryFolder;

/// `mask` gives the loss mask of token i of a document; null: the dataset has none.
void write_dataset(const std::string& path, const std::vector<std::int64_t>& lengths,
                   std::uint8_t (*mask)(std::int64_t) = nullptr) {
  DatasetWriter writer(path, 512, "test", {.loss_mask = mask != nullptr});
  for (const std::int64_t length : lengths) {
    writer.begin_document("d");
    std::vector<std::int32_t> tokens;
    std::vector<std::uint8_t> values;
    for (std::int64_t i = 0; i < length; ++i) {
      tokens.push_back(static_cast<std::int32_t>(65 + i % 5));
      if (mask != nullptr) values.push_back(mask(i));
    }
    writer.append(tokens, values);
  }
  writer.finish();
}

const std::string train =
    "@causeway train --model mamba-tiny --width 8 --state 4 --pack-tokens 8 --policy in_order "
    "--strategy causal_conv=halo,selective_scan=state_carry --transport local ";

TEST(Labels, TrainingDataWithoutAnyIsRefusedByName) {
  const TemporaryFolder folder;
  write_dataset(folder / "good.h5", {20, 20});
  write_dataset(folder / "short.h5", {1, 0, 1, 1});
  write_dataset(folder / "zeros.h5", {20, 20}, [](std::int64_t) -> std::uint8_t { return 0; });
  write_dataset(folder / "starts.h5", {20, 20}, [](std::int64_t i) -> std::uint8_t { return i == 0; });
  // Labels only where a document is cut: at the first token of its pieces of 8.
  write_dataset(folder / "cuts.h5", {20, 20}, [](std::int64_t i) -> std::uint8_t { return i % 8 == 0; });
  for (const std::string name : {"short.h5", "zeros.h5", "starts.h5", "cuts.h5"})
    for (const std::string& data : {"--data " + name, "--data good.h5 --data " + name + " --ranks 3"}) {
      const Outcome outcome = shell(folder, train + "--steps 2 --run run " + data);
      EXPECT_EQ(outcome.exit, 2) << data << outcome.err;
      EXPECT_NE(outcome.err.find(name + ": no token is a label"), std::string::npos) << outcome.err;
      EXPECT_FALSE(std::filesystem::exists(folder / "run")) << data;
    }
  std::string one = train + "--steps 2 --run run --data good.h5";
  one.replace(one.find("--pack-tokens 8"), 15, "--pack-tokens 1");
  EXPECT_EQ(shell(folder, one).exit, 2);
}

TEST(Labels, AStepWithoutAnyHasNoLossAndChangesNothing) {
  const TemporaryFolder folder;
  std::vector<std::int64_t> lengths(40, 1);
  lengths.front() = 6;
  write_dataset(folder / "data.h5", lengths);
  for (const std::string mesh : {"--ranks 1", "--ranks 2 --data-parallel 2", "--ranks 2 --context-parallel 2"}) {
    const Outcome outcome =
        shell(folder,
              train + mesh + " --data data.h5 --steps 12 --checkpoint-every 1 --log-every 1 --run 'run " + mesh + "'");
    ASSERT_EQ(outcome.exit, 0) << outcome.err;
    EXPECT_NE(outcome.err.find("loss –"), std::string::npos) << outcome.err;
    EXPECT_EQ(outcome.err.find("loss 0.0000"), std::string::npos) << outcome.err;
    int without = 0, with = 0;
    for (const auto& line : metrics(folder / ("run " + mesh))) {
      const auto step = line["step"].get<std::int64_t>();
      if (step == 1) continue;
      const auto folder_of = [&](std::int64_t number) { return folder / fmt::format("run {}/step-{}", mesh, number); };
      const bool same = weights_and_moments(folder_of(step)) == weights_and_moments(folder_of(step - 1));
      EXPECT_EQ(same, line["loss"].is_null()) << line;
      EXPECT_EQ(line["grad_norm"].is_null(), line["loss"].is_null()) << line;
      ++(line["loss"].is_null() ? without : with);
    }
    EXPECT_GT(without, 0) << mesh;
    EXPECT_GT(with, 0) << mesh;
  }
}

TEST(Labels, AHeldOutLossOverNothingIsNullAndNeverTheBest) {
  const TemporaryFolder folder;
  write_dataset(folder / "data.h5", {20, 20});
  write_dataset(folder / "short.h5", {1, 1, 1});
  const Outcome outcome =
      shell(folder, train + "--data data.h5 --valid-data short.h5 --eval-every 1 --steps 2 --run run");
  ASSERT_EQ(outcome.exit, 0) << outcome.err;
  for (const auto& line : metrics(folder / "run")) EXPECT_TRUE(line.at("eval_loss").is_null()) << line;
  const Outcome watched = shell(folder, "@causeway watch --once run");
  EXPECT_NE(watched.out.find("held-out –"), std::string::npos) << watched.out;
  EXPECT_EQ(watched.out.find("best"), std::string::npos) << watched.out;
  const Outcome inspected = shell(folder, "@causeway inspect run");
  EXPECT_NE(inspected.out.find("held-out –"), std::string::npos) << inspected.out;
  EXPECT_EQ(inspected.out.find("best"), std::string::npos) << inspected.out;
  const Outcome scored = shell(folder, "@causeway score --checkpoint run --data short.h5 --out scores.h5");
  ASSERT_EQ(scored.exit, 0) << scored.err;
  EXPECT_NE(scored.err.find("– nats a token"), std::string::npos) << scored.err;
}

}  // namespace
}  // namespace causeway::test
