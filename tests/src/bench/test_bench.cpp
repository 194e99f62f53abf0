/// `causeway bench`: it measures every row, its figures are consistent, and its JSON can be parsed.

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>

#include "src/bench/documents.hpp"
#include "src/bench/operators.hpp"
#include "src/bench/workload.hpp"
#include "src/runtime/benchmark_tensors.hpp"
#include "tests/src/shell.hpp"
#include "tests/support/tensors.hpp"

namespace causeway::test {
namespace {

using testing::TemporaryFolder;

TEST(Bench, ReportsEveryOperatorInATableAndInJson) {
  const TemporaryFolder folder;
  const Outcome outcome =
      shell(folder, "@causeway bench operators --tokens 96 --channels 16 --seconds 0 --json r.json");
  ASSERT_EQ(outcome.exit, 0) << outcome.err;
  const nlohmann::json report = nlohmann::json::parse(testing::bytes_of(folder / "r.json"));
  EXPECT_EQ(report.at("topic"), "operators");
  EXPECT_EQ(report.at("device"), "cpu");
  EXPECT_EQ(report.at("dtype"), "f32");
  for (const char* ceiling : {"gigabytes_per_second", "gigaflops", "giga_exponentials_per_second"})
    EXPECT_GT(report.at("ceilings").at(ceiling).get<double>(), 0) << ceiling;
  std::set<std::string> names;
  for (const nlohmann::json& row : report.at("results")) {
    const std::string name = row.at("name");
    names.insert(name);
    EXPECT_GT(row.at("milliseconds").get<double>(), 0) << name;
    EXPECT_GT(row.at("bytes").get<double>(), 0) << name;
    EXPECT_NEAR(row.at("part_of_ceiling").get<double>() * row.at("milliseconds").get<double>(),
                row.at("floor_milliseconds").get<double>(), 1e-9)
        << name;
    EXPECT_NE(outcome.out.find(name), std::string::npos) << name;
  }
  EXPECT_EQ(names.size(), mixer_benchmarks().size() + row_benchmarks().size());
}

TEST(Bench, EveryOperatorRunsInTheOtherTypes) {
  const Stopwatch stopwatch(Stream(), 0);
  for (const DType dtype : {DType::f64, DType::bf16})
    bench_operators({.dtype = dtype, .tokens = 33, .channels = 32}, stopwatch, {1, 1, 1},
                    [&](const Measurement& row) { EXPECT_EQ(row.failure, "") << row.name << " " << name_of(dtype); });
}

TEST(Bench, TheCeilingThatBindsIsTheOneThatTakesLongest) {
  const Ceilings ceilings{.bytes_per_second = 10, .flops_per_second = 100, .exponentials_per_second = 1};
  const Floor copies = floor_of({.bytes = 30, .flops = 100, .exponentials = 2}, ceilings),
              multiplies = floor_of({.bytes = 30, .flops = 1000, .exponentials = 2}, ceilings),
              exponentials = floor_of({.bytes = 30, .flops = 100, .exponentials = 4}, ceilings);
  EXPECT_EQ(copies.binds, "copy");
  EXPECT_EQ(copies.seconds, 3);
  EXPECT_EQ(multiplies.binds, "gemm");
  EXPECT_EQ(multiplies.seconds, 10);
  EXPECT_EQ(exponentials.binds, "exp2");
  EXPECT_EQ(exponentials.seconds, 4);
}

TEST(Bench, TheFloorOfACopyIsItsBytesAtTheCeiling) {
  std::vector<Measurement> rows;
  bench_operators({.filter = "scale", .tokens = 64, .channels = 32}, Stopwatch(Stream(), 0),
                  {.bytes_per_second = 1e9, .flops_per_second = 1e18, .exponentials_per_second = 1e18},
                  [&](const Measurement& row) { rows.push_back(row); });
  ASSERT_EQ(rows.size(), 1u);
  EXPECT_EQ(rows[0].floor.binds, "copy");
  EXPECT_EQ(rows[0].bytes, 2. * 4 * 64 * 32);
  EXPECT_DOUBLE_EQ(rows[0].floor.seconds, rows[0].bytes / 1e9);
  EXPECT_DOUBLE_EQ(rows[0].part_of_ceiling(), rows[0].floor.seconds / rows[0].seconds);
}

TEST(Bench, RowsWithoutAKernelAreReportedAndTheOthersMeasured) {
  const Stopwatch stopwatch(Stream(), 0);
  std::vector<Measurement> rows;
  bench_operators({.dtype = DType::i32, .filter = "gated silu", .tokens = 16, .channels = 16}, stopwatch, {1, 1, 1},
                  [&](const Measurement& row) { rows.push_back(row); });
  ASSERT_EQ(rows.size(), 2u);
  for (const Measurement& row : rows) EXPECT_NE(row.failure, "") << row.name;
}

TEST(Bench, AFilterIsATextOrSeveral) {
  EXPECT_TRUE(matches("", "gemm"));
  EXPECT_TRUE(matches("scan back", "selective_scan backward"));
  EXPECT_FALSE(matches("scan back", "selective_scan forward"));
  EXPECT_TRUE(matches("gemm,scan", "selective_scan forward"));
  EXPECT_TRUE(matches("gemm,scan", "gemm"));
  EXPECT_FALSE(matches("gemm,scan", "attention"));
}

TEST(Bench, PacksAreFullOfDocumentsWithPackMambasLengths) {
  const std::vector<std::int64_t> cu_seqlens = packed_documents(1'000'000);
  EXPECT_EQ(cu_seqlens.front(), 0);
  EXPECT_EQ(cu_seqlens.back(), 1'000'000);
  for (std::size_t d = 1; d + 1 < cu_seqlens.size(); ++d) {
    EXPECT_GE(cu_seqlens[d] - cu_seqlens[d - 1], 57);
    EXPECT_LE(cu_seqlens[d] - cu_seqlens[d - 1], 2048);
  }
  EXPECT_NEAR(1e6 / static_cast<double>(cu_seqlens.size() - 1), 646, 30);
  EXPECT_EQ(packed_documents(5), (std::vector<std::int64_t>{0, 5}));
}

TEST(Bench, RandomValuesStayInTheirBoundsAndRowsDiffer) {
  const Stream stream;
  for (const std::int64_t count : {1, 5, 65537, 65538, 200'000}) {
    const Tensor x(stream, DType::f64, {count});
    fill_with_random(stream, x, -2, 3, 7);
    const std::vector<double> values = values_of(x);
    for (std::size_t i = 0; i < values.size(); ++i) {
      ASSERT_GE(values[i], -2);
      ASSERT_LT(values[i], 3);
      if (i >= 65537) {
        ASSERT_EQ(values[i], values[i - 65537]);
      }
    }
  }
}

TEST(Bench, StrategiesRunOverThreadsAndWriteJson) {
  const TemporaryFolder folder;
  const Outcome outcome = shell(
      folder, "@causeway bench strategies --ranks 2 --tokens 64 --channels 16 --seconds 0 --filter conv --json r.json");
  ASSERT_EQ(outcome.exit, 0) << outcome.err;
  const nlohmann::json report = nlohmann::json::parse(testing::bytes_of(folder / "r.json"));
  ASSERT_FALSE(report.at("results").empty());
  for (const nlohmann::json& row : report.at("results")) {
    EXPECT_GT(row.at("forward_milliseconds").get<double>(), 0) << row;
    for (const char* time : {"backward", "estimated", "exposed", "hidden"})
      EXPECT_GE(row.at(fmt::format("{}_milliseconds", time)).get<double>(), 0) << row;
    for (const auto& [key, value] : row.items()) EXPECT_FALSE(key.ends_with("_s")) << key << ": another unit";
  }
  // What auto takes is one of the measured strategies, and not faster than the fastest.
  ASSERT_FALSE(report.at("auto").empty());
  for (const nlohmann::json& row : report.at("auto"))
    EXPECT_GE(row.at("auto_milliseconds").get<double>(), row.at("fastest_milliseconds").get<double>()) << row;
  EXPECT_NE(outcome.out.find("--strategy auto"), std::string::npos);
  EXPECT_FALSE(report.at("machine").at("kernels").empty());
}

TEST(Bench, ACheckpointIsMeasuredAndRemoved) {
  const TemporaryFolder folder;
  const Outcome outcome = shell(folder, "@causeway bench checkpoint --ranks 3 --megabytes 2 --json r.json");
  ASSERT_EQ(outcome.exit, 0) << outcome.err;
  const nlohmann::json report = nlohmann::json::parse(testing::bytes_of(folder / "r.json"));
  for (const char* figure : {"copy_s", "published_s", "checked_s", "read_s"}) EXPECT_GT(report.at(figure), 0) << figure;
  EXPECT_GE(report.at("bytes"), 1'900'000);
  for (const auto& entry : std::filesystem::directory_iterator(folder / ""))
    EXPECT_FALSE(entry.path().filename().string().starts_with("checkpoint-bench")) << entry.path();
}

TEST(Bench, RefusesWrongOptions) {
  const TemporaryFolder folder;
  const std::pair<const char*, const char*> rows[] = {
      {"--tokens 5", "--channels"},
      {"--tokens 5 --channels 17", "--channels is 17"},
      {"--dtype i32", "--dtype"},
      {"--device tpu", "--device"},
      {"checkpoint --megabytes 0", "--megabytes is 0"},
      {"nonsense", "topic"},
      {"operators --seconds nan", "--seconds is nan"},
      {"strategies --seconds inf", "--seconds is inf"},
      {"strategies --json .", "not a regular file"},
      {"strategies --tokens 64 --channels 16 --filter nosuch", "--filter is 'nosuch'"}};
  for (const auto& [arguments, says] : rows) {
    const Outcome outcome = shell(folder, fmt::format("@causeway bench {}", arguments));
    EXPECT_EQ(outcome.exit, 2) << arguments;
    EXPECT_NE(outcome.err.find(says), std::string::npos) << outcome.err;
  }
}

TEST(ValidateScript, RefusesWrongOptions) {
  const TemporaryFolder folder;
  std::ofstream(folder / "list") << "2 --model mamba-tiny --tokens 64 --context-parallel 3";
  std::ofstream(folder / "open") << "1 --model 'mamba-tiny";
  const std::pair<const char*, const char*> rows[] = {{"--ranks 0", "--ranks"},
                                                      {"--ranks 1 --tokens abc", "--tokens: found 'abc'"},
                                                      {"--list list", "--context-parallel 3, expected 2 ranks"},
                                                      {"--list open", "No closing quotation"},
                                                      {"--out nowhere/x.json", "--out is 'nowhere/x.json'"}};
  for (const auto& [arguments, says] : rows) {
    const Outcome outcome = shell(folder, fmt::format("{}/scripts/scaling/validate --causeway @causeway --profile "
                                                      "h200-ndr400 {}",
                                                      CAUSEWAY_TEST_SOURCE, arguments));
    EXPECT_EQ(outcome.exit, 2) << arguments << outcome.err;
    EXPECT_NE(outcome.err.find(says), std::string::npos) << outcome.err;
  }
}

}  // namespace
}  // namespace causeway::test
