/// `causeway train --dry-run`: the estimate of memory, held against the metric of a run; the verdict; epochs and times.

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "src/train/memory_plan.hpp"
#include "src/train/settings/train_settings.hpp"
#include "tests/src/model_support.hpp"
#include "tests/src/shell.hpp"

namespace causeway::test {
namespace {

using testing::TemporaryFolder;

constexpr std::int64_t pack_tokens = 4096;

/// 2,048 documents of 4 bytes: two packs.
void make_data(const TemporaryFolder& folder) {
  std::string lines;
  for (int i = 0; i < 2048; ++i) lines += "ACGT\n";
  folder.write("lines.txt", lines);
  ASSERT_EQ(shell(folder, "@causeway import lines.txt --format lines --out data.h5").exit, 0);
}

/// What memory_of_rank() says for a rank of `ranks`.
double estimate(const Model::Options& options, const StrategyNames& strategies, int ranks,
                const ParameterMemory& parameters) {
  double bytes = 0;
  on_ranks(ranks, [&](Communicator& world) {
    const bool first = world.rank() == 0;
    const Model model(options);
    const Runtime runtime{
        .stream = Stream(), .mesh = Mesh(world.split(0, world.rank()), 1, ranks), .strategies = strategies};
    if (first) bytes = memory_of_rank(model, runtime, pack_tokens, parameters).tensors();
  });
  return bytes;
}

/// memory_bytes of the only step of a run.
double metric(const TemporaryFolder& folder, const std::string& options) {
  std::filesystem::remove_all(folder / "run");
  const Outcome outcome = shell(
      folder,
      fmt::format("@causeway train --data data.h5 --run run --steps 1 --pack-tokens {} {}", pack_tokens, options));
  EXPECT_EQ(outcome.exit, 0) << outcome.err;
  if (outcome.exit != 0) return 0;
  return nlohmann::json::parse(testing::bytes_of(folder / "run/metrics.jsonl")).at("memory_bytes").get<double>();
}

void expect_near(const TemporaryFolder& folder, const Model::Options& options, const StrategyNames& strategies,
                 int ranks, const std::string& given, double low, double high, const ParameterMemory& parameters = {}) {
  std::string names;
  for (const auto& [op, strategy] : strategies) names += fmt::format("{}{}={}", names.empty() ? "" : ",", op, strategy);
  const std::string all =
      fmt::format("{} --dtype {} --ranks {}{}{}", given, name_of(options.dtype), ranks,
                  options.recompute ? " --recompute" : "", names.empty() ? "" : " --strategy " + names);
  const double share = estimate(options, strategies, ranks, parameters) / metric(folder, all);
  EXPECT_GE(share, low) << all;
  EXPECT_LE(share, high) << all;
}

TEST(DryRun, TheEstimatedMemoryIsWithinAFifthOfTheMetric) {
  const TemporaryFolder folder;
  make_data(folder);
  const StrategyNames halos = {{"causal_conv", "halo"}, {"selective_scan", "state_carry"}, {"hyena_se", "halo"},
                               {"hyena_mr", "halo"},    {"hyena_li", "state_carry"},       {"attention", "all_to_all"}};
  for (const char* preset : {"mamba-tiny", "sh2-tiny"})
    for (const DType dtype : {DType::f32, DType::f64})
      for (const bool recompute : {false, true})
        for (const int ranks : {1, 3})
          expect_near(folder, {.shape = preset_options(preset), .dtype = dtype, .recompute = recompute}, halos, ranks,
                      fmt::format("--model {}", preset), 1 / 1.2, 1.2);
}

TEST(DryRun, TheEstimatedMemoryFollowsSharding) {
  const TemporaryFolder folder;
  make_data(folder);
  const StrategyNames halos = {{"causal_conv", "halo"}, {"selective_scan", "state_carry"}, {"hyena_se", "halo"},
                               {"hyena_mr", "halo"},    {"hyena_li", "state_carry"},       {"attention", "all_to_all"}};
  struct Row {
    ShardLevel level;
    int ranks;
    DType dtype = DType::f32;
    bool recompute = false;
    int packs = 1;
    std::int64_t kept = 0;
    const char* gradients = "f32";
  };
  const Row rows[] = {{ShardLevel::optimizer, 4},
                      {ShardLevel::optimizer, 2, DType::f32, true, 2},
                      {ShardLevel::gradients, 4, DType::bf16},
                      {ShardLevel::parameters, 4},
                      {ShardLevel::optimizer, 4, DType::f32, false, 1, 0, "bf16"},
                      {ShardLevel::parameters, 4, DType::f32, false, 1, 0, "bf16"},
                      {ShardLevel::parameters, 2, DType::f32, true, 2, 2}};
  for (const char* preset : {"mamba-tiny", "sh2-tiny"})
    for (const Row& row : rows) {
      const ModelOptions shape = resolve({.model = preset, .layers_count = 5, .width = 256}, {});
      // sh2-tiny's activations in recomputed blocks are estimated too high.
      const double most = shape.ffn > 0 && row.recompute ? 1.1 : 1.05;
      expect_near(
          folder, {.shape = shape, .dtype = row.dtype, .recompute = row.recompute, .keep_blocks = row.kept}, halos,
          row.ranks,
          fmt::format("--model {} --width 256 --layers-count 5 --shard {} --accumulate {} --keep-blocks {} "
                      "--gradient-dtype {}",
                      preset, name_of(row.level), row.packs, row.kept, row.gradients),
          1 / 1.05, most,
          training_memory_of({.shard = std::string(name_of(row.level))}, {.gradient_dtype = row.gradients}, row.packs));
    }
}

TEST(DryRun, TheEstimatedMemoryFollowsEveryStrategy) {
  const TemporaryFolder folder;
  make_data(folder);
  const std::pair<const char*, const char*> mixers[] = {{"mamba*2", "causal_conv"},
                                                        {"mamba*2", "selective_scan"},
                                                        {"mr*2", "hyena_mr"},
                                                        {"li*2", "hyena_li"},
                                                        {"attention*2", "attention"}};
  for (const auto& [layers, op] : mixers)
    for (const ListedOperator& listed : listed_operators())
      for (const ListedStrategy& strategy : listed.strategies) {
        if (listed.name != op) continue;
        ModelOptions shape = preset_options("sh2-tiny");
        shape.layers = parse_layers(layers);
        StrategyNames strategies = {{"causal_conv", "halo"}, {"selective_scan", "state_carry"}};
        strategies[op] = strategy.name;
        expect_near(folder, {.shape = shape, .dtype = DType::f32}, strategies, 3,
                    fmt::format("--model sh2-tiny --layers '{}'", layers), 1 / 1.35, 1.35);
      }
}

TEST(DryRun, SaysWhetherItFitsHowManyEpochsAndHowLong) {
  const TemporaryFolder folder;
  make_data(folder);
  const Outcome small =
      shell(folder,
            "@causeway train --data data.h5 --run run --layers mamba --width 8 --state 2 --pack-tokens "
            "4096 --steps 10 --dry-run --ranks 2");
  EXPECT_EQ(small.exit, 0) << small.err;
  EXPECT_NE(small.out.find("\nfits: 2 ranks need about "), std::string::npos) << small.out;
  EXPECT_NE(small.out.find("\nan epoch: 8,192 tokens, about 2 packs (0.0 % padding), 2 steps; 10 steps are 5 epochs\n"),
            std::string::npos)
      << small.out;
  EXPECT_NE(small.out.find("\ntime of a step: "), std::string::npos) << small.out;
  EXPECT_NE(small.out.find("its tensors take "), std::string::npos) << small.out;
  EXPECT_FALSE(std::filesystem::exists(folder / "run"));
}

TEST(DryRun, ALargeModelIsDescribedWithoutBeingMade) {
  const TemporaryFolder folder;
  make_data(folder);
  for (const char* model : {"sh2-7b", "sh2-40b", "mamba-2.8b"}) {
    // With a limit of the address space that the model would break many times.
    const Outcome outcome = shell(
        folder, fmt::format("bash -c 'ulimit -v 8388608; exec @causeway train --data data.h5 --run run --model {} "
                            "--pack-tokens 4096 --dry-run'",
                            model));
    EXPECT_EQ(outcome.exit, 0) << outcome.err;
    EXPECT_NE(outcome.out.find("\ndoes not fit: a rank needs about "), std::string::npos) << outcome.out;
    EXPECT_NE(outcome.out.find("; with --recompute about "), std::string::npos) << outcome.out;
    EXPECT_NE(outcome.out.find("time of a step: not known, because it does not fit here"), std::string::npos)
        << outcome.out;
  }
}

TEST(DryRun, TheVerdictComparesAllRanksOfAHost) {
  const RankMemory rank{
      .weights = 1 << 30, .gradients = 1 << 30, .optimizer = 0, .activations = 1 << 30, .workspace = 0};
  const auto verdict = [&](double available, int ranks, std::optional<double> with_recompute) {
    const std::string text = memory_text(
        rank, Device::cpu, AvailableMemory{.bytes = available, .ranks = ranks, .where = "host a"}, with_recompute);
    return text.substr(text.rfind('\n') + 1);
  };
  constexpr double gib = 1 << 30;
  EXPECT_EQ(verdict(32 * gib, 4, {}), "fits: 4 ranks need about 12.0 GiB, host a has 32.0 GiB available");
  EXPECT_EQ(verdict(13 * gib, 4, {}), "fits, but closely: 4 ranks need about 12.0 GiB, host a has 13.0 GiB available");
  EXPECT_EQ(
      verdict(8 * gib, 4, 1.5 * gib),
      "does not fit: 4 ranks need about 12.0 GiB, host a has 8.00 GiB available; with --recompute about 6.00 GiB");
  EXPECT_EQ(verdict(2 * gib, 1, {}), "does not fit: a rank needs about 3.00 GiB, host a has 2.00 GiB available");
  EXPECT_NE(memory_text(rank, Device::cpu, std::nullopt, {}).find("whether it fits is not known"), std::string::npos);
}

TEST(DryRun, WhatIsOffloadedFromAGpuCountsOnTheHost) {
  constexpr double gib = 1 << 30;
  const RankMemory rank{
      .weights = gib, .gradients = gib, .host_optimizer = 6 * gib, .host_activations = 3 * gib, .checkpoint = 6 * gib};
  EXPECT_EQ(rank.on_device(Device::cuda), 2 * gib);
  EXPECT_EQ(rank.on_host(Device::cuda), 15 * gib);
  EXPECT_NE(memory_text(rank, Device::cuda, std::nullopt, {})
                .find("\n  on the host: optimizer state 6.00 GiB, activations 3.00 GiB, copy of a checkpoint 6.00 GiB"),
            std::string::npos);
  const AvailableMemory host{.bytes = 24 * gib, .ranks = 2, .where = "host a"};
  EXPECT_EQ(fit_text(rank.on_host(Device::cuda), host),
            "does not fit: 2 ranks need about 30.0 GiB, host a has 24.0 GiB available");
}

}  // namespace
}  // namespace causeway::test
