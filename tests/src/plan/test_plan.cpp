/// `causeway plan` as a program.

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/src/plan/small_profile.hpp"
#include "tests/src/shell.hpp"

namespace causeway::test {
namespace {

using testing::TemporaryFolder;

TEST(Plan, WritesAllMembersAsJson) {
  const TemporaryFolder folder;
  const Outcome outcome =
      shell(folder,
            "@causeway plan --model sh2-7b --pack-tokens 64K --ranks 64 --tokens 1000000M --price 30 "
            "--offload none --search --json plan.json");
  ASSERT_EQ(outcome.exit, 0) << outcome.err;
  const auto json = nlohmann::json::parse(testing::bytes_of(folder / "plan.json"));
  EXPECT_EQ(json.at("fits"), true);
  EXPECT_EQ(json.at("context"), 65536);
  EXPECT_EQ(json.at("mesh").at("data").get<int>() * json.at("mesh").at("context").get<int>(), 64);
  double seconds = 0;
  for (const auto& part : json.at("step_s")) seconds += part.get<double>();
  EXPECT_NEAR(seconds, json.at("seconds").get<double>(), 1e-9 * seconds);
  EXPECT_NEAR(json.at("tokens_per_s").get<double>() * seconds, json.at("step_tokens").get<double>(), 1);
  EXPECT_NEAR(json.at("node_hours").get<double>(), 8 * (1e6 * 1048576) / json.at("tokens_per_s").get<double>() / 3600,
              1);
  EXPECT_DOUBLE_EQ(json.at("cost").get<double>(), 30 * json.at("node_hours").get<double>());
  for (const char* op : {"hyena_se", "hyena_mr", "hyena_li", "attention", "causal_conv"})
    EXPECT_TRUE(json.at("strategies").at(op).is_string()) << op;
  EXPECT_GT(json.at("memory").at("optimizer").get<double>(), 0);
  EXPECT_FALSE(json.at("runners_up").empty());
  for (const char* word : {"memory of a rank", "seconds of a step", "strategies of", "other meshes", "cost"})
    EXPECT_NE(outcome.out.find(word), std::string::npos) << word << "\n" << outcome.out;
}

TEST(Plan, WhatFitsNowhereIsReportedAndEndsWithZero) {
  const TemporaryFolder folder;
  const Outcome outcome = shell(folder, "@causeway plan --model sh2-40b --pack-tokens 1M --ranks 1 --json plan.json");
  ASSERT_EQ(outcome.exit, 0) << outcome.err;
  EXPECT_EQ(nlohmann::json::parse(testing::bytes_of(folder / "plan.json")).at("fits"), false);
  EXPECT_NE(outcome.out.find("fits         NO"), std::string::npos) << outcome.out;
  EXPECT_NE(outcome.out.find("warning: 1 x 1 does not fit"), std::string::npos) << outcome.out;
}

/// A document of 2^33 tokens has more pairs than an integer of 64 bits holds: fewer seconds than half as many tokens
/// take, and an MFU above 1.
TEST(Plan, PairsOfVeryLongDocumentsAreCounted) {
  const TemporaryFolder folder;
  const auto plan = [&](const std::string& context) {
    const Outcome outcome = shell(
        folder,
        "@causeway plan --layers attention --context-parallel 2 --ranks 2 --json plan.json --pack-tokens " + context);
    EXPECT_EQ(outcome.exit, 0) << outcome.err;
    return nlohmann::json::parse(testing::bytes_of(folder / "plan.json"));
  };
  const auto half = plan("4096M"), whole = plan("8192M");
  EXPECT_NEAR(whole.at("seconds").get<double>() / half.at("seconds").get<double>(), 4, 0.1);
  EXPECT_LT(whole.at("mfu").get<double>(), 1);
}

TEST(Plan, ReadsAProfileAndRefusesADamagedOne) {
  const TemporaryFolder folder;
  auto json = to_json(small_profile());
  folder.write("cluster.json", json.dump());
  EXPECT_EQ(shell(folder, "@causeway plan --ranks 2 --profile cluster.json").exit, 0);
  json["network"]["latency_s"] = -1;
  folder.write("cluster.json", json.dump());
  const Outcome negative = shell(folder, "@causeway plan --ranks 2 --profile cluster.json");
  EXPECT_EQ(negative.exit, 2);
  EXPECT_NE(negative.err.find("cluster.json: network: latency_s is -1"), std::string::npos) << negative.err;
  json["network"]["latency_s"] = 0;
  json["kernels"] = nlohmann::json::array();
  folder.write("cluster.json", json.dump());
  const Outcome none = shell(folder, "@causeway plan --ranks 2 --profile cluster.json");
  EXPECT_EQ(none.exit, 2) << none.err;
}

TEST(Plan, WrongOptionsAreRefusedByName) {
  const TemporaryFolder folder;
  for (const auto& [options, named] : std::vector<std::pair<std::string, std::string>>{
           {"", "--ranks"},
           {"--ranks 0", "--ranks"},
           {"--ranks 100000", "--ranks"},
           {"--ranks 2 --pack-tokens 0", "--pack-tokens"},
           {"--ranks 2 --context 0", "--pack-tokens"},
           {"--ranks 2 --document-tokens 9000", "--document-tokens"},
           {"--ranks 2 --price -1", "--price"},
           {"--ranks 2 --profile nothing", "--profile"},
           {"--ranks 2 --profile none.json", "none.json"},
           {"--ranks 2 --model sh2-8b", "sh2-8b"},
           {"--ranks 6 --context-parallel 4", "--context-parallel"},
           {"--ranks 2 --recompute no --offload activations", "--offload"}}) {
    const Outcome outcome = shell(folder, "@causeway plan " + options);
    EXPECT_EQ(outcome.exit, 2) << options;
    EXPECT_NE(outcome.err.find(named), std::string::npos) << options << ": " << outcome.err;
  }
}

}  // namespace
}  // namespace causeway::test
