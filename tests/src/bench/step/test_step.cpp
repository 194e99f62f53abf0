/// `causeway bench step`: which documents a step computes, how spans become parts, and what the program prints.

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <numeric>

#include "src/bench/step/step_documents.hpp"
#include "src/bench/step/step_parts.hpp"
#include "tests/src/shell.hpp"
#include "tests/support/packmamba_lengths.hpp"
#include "tests/support/temporary_folder.hpp"

namespace causeway::test {
namespace {

using testing::TemporaryFolder;
using Lengths = std::vector<std::int64_t>;

TEST(StepDocuments, PacksAreFullOfTheFilesDocumentsInItsProportions) {
  const Lengths lengths = testing::packmamba_lengths(128, 0.8);
  const double mean = static_cast<double>(std::accumulate(lengths.begin(), lengths.end(), std::int64_t{0})) / 128;
  for (const std::int64_t packs : {1, 3}) {
    const std::vector<StepPass> found = packs_of(lengths, {.pack_tokens = 16384}, packs);
    ASSERT_EQ(std::ssize(found), packs);
    const StepCount count = count_of(found);
    EXPECT_EQ(count.passes, packs);
    EXPECT_EQ(count.places, count.tokens);
    EXPECT_GT(count.tokens, packs * 16384 * 99 / 100);
    EXPECT_NEAR(static_cast<double>(count.tokens) / static_cast<double>(count.documents), mean, 0.3 * mean);
    for (const StepPass& pass : found) EXPECT_LE(pass.tokens(), 16384);
  }
}

TEST(StepDocuments, EveryPolicyMakesAsManyPacksAsAreAskedFor) {
  for (const PackingPolicy& policy : packing_policies())
    for (const Lengths& lengths : {Lengths{1}, Lengths{5, 7}, Lengths{64}, Lengths{1000}, Lengths{33, 1}}) {
      const std::vector<StepPass> found = packs_of(lengths, {.policy = policy.name, .pack_tokens = 64}, 5);
      ASSERT_EQ(found.size(), 5u) << policy.name;
      for (const StepPass& pass : found) {
        EXPECT_GE(pass.tokens(), 1) << policy.name;
        EXPECT_LE(pass.tokens(), 64) << policy.name;
      }
    }
}

TEST(StepDocuments, ADocumentLongerThanAPackIsCut) {
  EXPECT_EQ(packs_of({std::int64_t{1} << 40}, {.pack_tokens = 8}, 2),
            (std::vector<StepPass>{{.documents = {8}}, {.documents = {8}}}));
}

TEST(StepDocuments, OneAtATimeAndPaddedHaveTheSameTokens) {
  const std::vector<StepPass> packs{{.documents = {5, 3}}, {.documents = {4, 1, 2}}};
  EXPECT_EQ(one_at_a_time(packs),
            (std::vector<StepPass>{
                {.documents = {5}}, {.documents = {3}}, {.documents = {4}}, {.documents = {1}}, {.documents = {2}}}));
  EXPECT_EQ(padded(packs, 14), (std::vector<StepPass>{{.documents = {5, 3}, .row_tokens = 5},
                                                      {.documents = {4, 1}, .row_tokens = 5},
                                                      {.documents = {2}, .row_tokens = 5}}));
  EXPECT_EQ(padded(packs, 3).size(), 5u) << "a row is longer than what fits: one a pass";
  for (const auto& [passes, places] : {std::pair{packs, 15}, {one_at_a_time(packs), 15}, {padded(packs, 14), 25}}) {
    const StepCount count = count_of(passes);
    EXPECT_EQ(count.documents, 5);
    EXPECT_EQ(count.tokens, 15);
    EXPECT_EQ(count.places, places);
  }
}

TEST(StepDocuments, AFileOfLengthsMayHaveBlankLinesAndAnyLineEnds) {
  const TemporaryFolder folder;
  folder.write("l.txt",
               "\xef\xbb\xbf"
               "12\r\n\n  7 \n1");
  EXPECT_EQ(read_lengths(folder / "l.txt", "--lengths"), (Lengths{12, 7, 1}));
}

TEST(StepParts, AMomentBelongsToTheInnermostSpanAndIsCountedOnce) {
  const auto span = [](const char* name, const char* category, double begin, double end) {
    return TraceSpan{.name = name, .category = category, .begin_s = begin, .end_s = end};
  };
  std::vector<TraceSpan> spans{
      span("step", "range", 1, 20),           span("zero", "operator", 1, 2),
      span("forward", "range", 2, 8),         span("layer 0 mamba", "range", 2, 7),
      span("gemm", "operator", 2, 4),         span("selective_scan_forward", "operator", 4, 6.5),
      span("copy", "operator", 5, 6),         span("start exchange", "exchange", 6.5, 7),
      span("head", "range", 8, 10),           span("gemm", "operator", 8, 9),
      span("backward", "range", 10, 15),      span("selective_scan_forward", "operator", 10, 11),
      span("gemm", "operator", 11, 14),       span("delay", "operator", 14, 15),
      span("optimizer", "range", 15, 19),     span("adamw", "operator", 15, 17),
      span("all_gather", "exchange", 17, 19), span("copy", "operator", 18, 19),
  };
  spans.push_back(span("elsewhere", "operator", 3, 30));
  spans.back().lane = TraceLane::in_flight;
  const StepParts expected{{"zero", 1},
                           {"gemm forward", 2},
                           {"selective_scan forward", 1.5 + 1},
                           {"copy forward", 1},
                           {"exchange forward", 0.5},
                           {"rest", 1 + 1 + 1},
                           {"gemm head", 1},
                           {"gemm backward", 3},
                           {"optimizer", 2 + 1},
                           {"exchange optimizer", 1}};
  EXPECT_EQ(parts_of(spans, TraceLane::host, "delay"), expected);
}

TEST(StepParts, SpansThatOverlapWithoutNestingAreCountedOnce) {
  const std::vector<TraceSpan> spans{{.name = "a", .category = "operator", .begin_s = 0, .end_s = 4},
                                     {.name = "b", .category = "operator", .begin_s = 3, .end_s = 6},
                                     {.name = "c", .category = "operator", .begin_s = 6, .end_s = 7}};
  EXPECT_EQ(parts_of(spans, TraceLane::host), (StepParts{{"a", 3}, {"b", 3}, {"c", 1}}));
}

nlohmann::json report_of(const TemporaryFolder& folder, const std::string& command) {
  const Outcome outcome = shell(folder, command + " --json r.json");
  EXPECT_EQ(outcome.exit, 0) << command << '\n' << outcome.err;
  EXPECT_EQ(outcome.err, "") << command;
  EXPECT_NE(outcome.out.find("part of a step"), std::string::npos) << outcome.out;
  return nlohmann::json::parse(testing::bytes_of(folder / "r.json"));
}

void expect_consistent(const nlohmann::json& report) {
  double sum = 0;
  for (const auto& [name, milliseconds] : report.at("parts").items()) {
    EXPECT_GE(milliseconds.get<double>(), 0) << name;
    sum += milliseconds.get<double>();
  }
  const double step_ms = report.at("step_ms");
  EXPECT_NEAR(sum, step_ms, 0.1 * step_ms);
  EXPECT_NEAR(report.at("tokens_per_s").get<double>() * step_ms, 1e3 * report.at("tokens").get<double>(), 1);
  EXPECT_EQ(report.at("topic"), "step");
  EXPECT_TRUE(report.at("mfu").is_null());
  EXPECT_GT(report.at("memory_bytes"), 0);
  EXPECT_EQ(report.at("bytes_sent") > 0, report.at("ranks") > 1);
  EXPECT_GE(report.at("hidden_ms"), 0);
  EXPECT_LT(report.at("exposed_ms"), report.at("slowest_ms"));
}

TEST(BenchStep, PrintsPartsThatAddUpAndComparesItself) {
  const TemporaryFolder folder;
  const nlohmann::json report =
      report_of(folder, "@causeway bench step --model mamba-tiny --tokens 1K --steps 3 --one-at-a-time --padded");
  expect_consistent(report);
  EXPECT_EQ(report.at("model"), "mamba-tiny");
  EXPECT_EQ(report.at("dtype"), "f32");
  EXPECT_EQ(report.at("device"), "cpu");
  EXPECT_EQ(report.at("ranks"), 1);
  EXPECT_EQ(report.at("tokens"), 1024);
  EXPECT_EQ(report.at("fill"), 1);
  for (const char* part : {"selective_scan forward", "selective_scan backward", "causal_conv forward",
                           "causal_conv backward", "gemm forward", "gemm backward", "gemm head", "optimizer", "rest"})
    EXPECT_TRUE(report.at("parts").contains(part)) << part;
  EXPECT_EQ(report.at("one_at_a_time_passes"), report.at("documents"));
  for (const std::string other : {"one_at_a_time", "padded"}) {
    const double tokens_per_s = report.at(other + "_tokens_per_s");
    EXPECT_NEAR(report.at("packed_over_" + other).get<double>() * tokens_per_s, report.at("tokens_per_s"),
                1e-6 * tokens_per_s);
    EXPECT_NEAR(tokens_per_s * report.at(other + "_step_ms").get<double>(), 1024e3, 1) << "the same documents";
  }
  EXPECT_EQ(shell(folder, "@causeway export r.json --out r.tsv").exit, 0);
}

TEST(BenchStep, CountsTheTokensOfAFileWithoutUnusedPlaces) {
  const TemporaryFolder folder;
  folder.write("lengths.txt", "40\n50\n");
  const nlohmann::json report = report_of(folder,
                                          "@causeway bench step --layers \"se mamba\" --width 32 --tokens 100 "
                                          "--accumulate 2 --lengths lengths.txt --policy in_order --steps 1 "
                                          "--recompute --dtype f64 --padded");
  expect_consistent(report);
  EXPECT_EQ(report.at("packs"), 2);
  EXPECT_EQ(report.at("documents"), 4);
  EXPECT_EQ(report.at("tokens"), 2 * 90);
  EXPECT_EQ(report.at("padded_places"), 4 * 50);
  EXPECT_EQ(report.at("model"), "se mamba");
}

TEST(BenchStep, RunsOverRanks) {
  const TemporaryFolder folder;
  const nlohmann::json shared = report_of(folder,
                                          "@causeway bench step --ranks 3 --tokens 300 --lengths one --steps 2 "
                                          "--one-at-a-time --layout zigzag --strategy selective_scan=state_carry");
  expect_consistent(shared);
  EXPECT_EQ(shared.at("ranks"), 3);
  EXPECT_EQ(shared.at("tokens"), 300);
  EXPECT_EQ(shared.at("documents"), 1);
  EXPECT_NE(shared.at("strategies").get<std::string>().find("selective_scan=state_carry"), std::string::npos);
  const nlohmann::json parallel =
      report_of(folder, "@mpirun -n 3 @causeway bench step --data-parallel 3 --tokens 200 --steps 1 --padded");
  expect_consistent(parallel);
  EXPECT_EQ(parallel.at("data_parallel"), 3);
  EXPECT_EQ(parallel.at("tokens"), 3 * 200);
}

TEST(BenchStep, SaysHowMuchMemoryIsMissing) {
  const TemporaryFolder folder;
  const Outcome outcome = shell(folder, "@causeway bench step --layers mamba*200 --width 100000 --tokens 8");
  EXPECT_EQ(outcome.exit, 1);
  EXPECT_NE(outcome.err.find("weights, gradients and optimizer state take"), std::string::npos) << outcome.err;
}

TEST(BenchStep, NamesTheFileAndTheLineThatIsWrong) {
  const TemporaryFolder folder;
  folder.write("word.txt", "12\nx7\n");
  folder.write("zero.txt", "12\n\n0\n");
  folder.write("large.txt", "99999999999999999999\n");
  folder.write("two.txt", "1 2\n");
  folder.write("empty.txt", "\n \n");
  folder.write("ones.txt", "1\n1\n");
  folder.write("null.txt", std::string("1\0\n", 3));
  const std::pair<std::string, std::string> rows[] = {
      {"--lengths word.txt", "--lengths: word.txt:2: found 'x7'"},
      {"--lengths zero.txt", "zero.txt:3: found '0'"},
      {"--lengths large.txt", "large.txt:1: found '99999999999999999999'"},
      {"--lengths two.txt", "two.txt:1: found '1 2'"},
      {"--lengths empty.txt", "'empty.txt' has no lengths"},
      {"--lengths missing.txt", "'missing.txt'"},
      {"--lengths .", "is a directory"},
      {"--lengths null.txt", "zero byte"},
      {"--lengths ones.txt", "no document has two tokens"},
      {"--tokens 1", "no document has two tokens"},
      {"--tokens 0", "--tokens is 0"},
      {"--tokens 5x", "--tokens"},
      {"--tokens K", "--tokens"},
      {"--steps 0", "--steps is 0"},
      {"--recompute-blocks 2", "--recompute is missing"},
      {"--policy best", "--policy is 'best'"},
      {"--model mamba-9t", "mamba-9t"},
      {"--data-parallel 2", "data"}};
  for (const auto& [arguments, says] : rows) {
    const Outcome outcome = shell(folder, fmt::format("@causeway bench step {}", arguments));
    EXPECT_EQ(outcome.exit, 2) << arguments;
    EXPECT_NE(outcome.err.find(says), std::string::npos) << arguments << '\n' << outcome.err;
  }
}

}  // namespace
}  // namespace causeway::test
