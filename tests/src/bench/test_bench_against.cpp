/// scripts/bench_against where PyTorch cannot be imported, which a module of that name ensures.

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/src/python.hpp"
#include "tests/support/temporary_folder.hpp"

namespace causeway::test {
namespace {

using testing::TemporaryFolder;

Outcome bench_against(const TemporaryFolder& folder, const std::string& arguments) {
  folder.write("torch.py", "raise ImportError('no PyTorch here')\n");
  return shell(folder, fmt::format("env PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=. '{}' {}/scripts/bench_against "
                                   "--causeway @causeway {}",
                                   python(), CAUSEWAY_TEST_SOURCE, arguments));
}

TEST(BenchAgainst, PrintsOursAndSaysThatThereIsNoPyTorch) {
  if (const std::string reason = without_python("json"); !reason.empty()) GTEST_SKIP() << reason;
  const TemporaryFolder folder;
  const Outcome outcome =
      bench_against(folder, "--layers 1 --width 16 --tokens 64 --channels 16 --seconds 0.01 --json r.json");
  ASSERT_EQ(outcome.exit, 0) << outcome.err;
  EXPECT_EQ(outcome.err, "");
  EXPECT_NE(outcome.out.find("no PyTorch here"), std::string::npos) << outcome.out;
  EXPECT_NE(outcome.out.find("training step, 1 x 16"), std::string::npos) << outcome.out;
  EXPECT_NE(outcome.out.find("selective_scan backward"), std::string::npos) << outcome.out;
  const nlohmann::json report = nlohmann::json::parse(testing::bytes_of(folder / "r.json"));
  EXPECT_TRUE(report.at("torch").is_null());
  EXPECT_EQ(report.at("step").at("tokens"), 64);
  EXPECT_GT(report.at("results").size(), 5u);
}

TEST(BenchAgainst, MeasuresATransformerWithAndWithoutItsOptimizer) {
  if (const std::string reason = without_python("json"); !reason.empty()) GTEST_SKIP() << reason;
  const TemporaryFolder folder;
  const Outcome outcome =
      bench_against(folder,
                    "--model transformer --layers 1 --width 16 --heads 2 --ffn 32 --tokens 64 --channels 16 "
                    "--only step --json r.json");
  ASSERT_EQ(outcome.exit, 0) << outcome.err;
  const nlohmann::json report = nlohmann::json::parse(testing::bytes_of(folder / "r.json"));
  EXPECT_EQ(report.at("step").at("layers"), "attention");
  const auto milliseconds = [&](const std::string& what) {
    for (const auto& row : report.at("results"))
      if (row.at("what") == what && row.contains("milliseconds")) return row.at("milliseconds").get<double>();
    return 0.0;
  };
  EXPECT_GT(milliseconds("training step, 1 x 16, no optimizer"), 0);
  EXPECT_LT(milliseconds("training step, 1 x 16, no optimizer"), milliseconds("training step, 1 x 16"));
}

TEST(BenchAgainst, EndsWithTwoForAWrongOption) {
  if (const std::string reason = without_python("json"); !reason.empty()) GTEST_SKIP() << reason;
  const TemporaryFolder folder;
  for (const char* wrong : {"--tokens x", "--channels 17", "--causeway /nowhere", "--json /nowhere/r.json",
                            "--only step --lengths /nowhere", "--model transformer --heads 3"})
    EXPECT_EQ(bench_against(folder, wrong).exit, 2) << wrong;
}

}  // namespace
}  // namespace causeway::test
