/// Packs that are dealt so that data groups have equal work.

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <numeric>
#include <sstream>

#include "io/data/dataset_writer.hpp"
#include "kernels/core/random.hpp"
#include "src/model/flops.hpp"
#include "src/train/data/pack_on_rank.hpp"
#include "src/train/data/pack_sequence.hpp"
#include "tests/src/shell.hpp"

namespace causeway::test {
namespace {

using testing::TemporaryFolder;

/// Work of the slowest data group over the mean of all, summed over steps: by how much longer the steps take than with
/// equal work; and the worst step.
struct Imbalance {
  double all = 0, worst = 0;
};

Imbalance imbalance_of(PackSequence& packs, const PackSequence::CostOfPack& cost, bool balanced, int groups,
                       int accumulate, int steps) {
  double slowest = 0, mean = 0, worst = 0;
  for (int step = 0; step < steps; ++step) {
    std::vector<double> costs;
    for (int i = 0; i < groups * accumulate; ++i) costs.push_back(cost(packs.next()));
    std::vector<double> sums(static_cast<std::size_t>(groups));
    if (balanced) {
      const auto dealt = deal_by_cost(costs, groups);
      for (std::size_t group = 0; group < dealt.size(); ++group)
        for (const std::size_t pack : dealt[group]) sums[group] += costs[pack];
    } else {
      for (std::size_t i = 0; i < costs.size(); ++i) sums[i % sums.size()] += costs[i];
    }
    const double most = std::ranges::max(sums),
                 average = std::accumulate(sums.begin(), sums.end(), 0.0) / static_cast<double>(groups);
    slowest += most;
    mean += average;
    worst = std::max(worst, most / average);
  }
  return {slowest / mean, worst};
}

/// On all meshes, with steps that take a thousand packs.
void expect_balance(const std::string& path, std::int64_t pack_tokens) {
  const DataMixture data = DataMixture::open({path}, 512);
  const Model model({.shape = preset_options("sh2-7b")});
  const PackSequence::CostOfPack cost = [&](const Pack& pack) { return training_flops(model, segments_of(pack)); };
  const PackingOptions packing{.pack_tokens = pack_tokens};
  for (const int groups : {2, 4, 8, 64})
    for (const int accumulate : {1, 4}) {
      const int steps = std::max(8, 1024 / (groups * accumulate));
      PackSequence in_order(data, packing, 1), balanced(data, packing, 1, {}, cost);
      const Imbalance before = imbalance_of(in_order, cost, false, groups, accumulate, steps),
                      after = imbalance_of(balanced, cost, true, groups, accumulate, steps);
      EXPECT_LE(after.all, 1.02) << path << ", " << groups << " groups, accumulate " << accumulate;
      EXPECT_LE(after.all, before.all + 1e-3);
      if (std::getenv("CAUSEWAY_TEST_PRINT") != nullptr)
        fmt::print("{} {} groups {} accumulate {}: in order {:.4f} (worst {:.3f}), balanced {:.4f} (worst {:.3f})\n",
                   std::filesystem::path(path).filename().string(), pack_tokens, groups, accumulate, before.all,
                   before.worst, after.all, after.worst);
    }
}

/// Documents of 64 tokens to a pack, with a tail of the power 1.2: most are short, most tokens are in long ones.
std::string write_long_tailed(const TemporaryFolder& folder, std::int64_t longest) {
  const std::string path = folder / "long_tailed.h5";
  DatasetWriter writer(path, 512, "test");
  const RandomStream random(7, 1);
  std::vector<std::int32_t> tokens(static_cast<std::size_t>(longest));
  for (std::size_t i = 0; i < tokens.size(); ++i) tokens[i] = static_cast<std::int32_t>(65 + i * i / 97 % 23);
  for (std::uint64_t d = 0; d < 4000; ++d) {
    const double length = 64 * std::pow(1 - random.uniform(d), -1 / 1.2);
    writer.begin_document("d");
    writer.append(std::span(tokens).first(static_cast<std::size_t>(std::min(length, static_cast<double>(longest)))),
                  {});
  }
  writer.finish();
  return path;
}

TEST(Balance, GroupsHaveEqualWorkWhereLengthsHaveALongTail) {
  const TemporaryFolder folder;
  expect_balance(write_long_tailed(folder, 65536), 65536);
  expect_balance(folder / "long_tailed.h5", 16384);
}

TEST(Balance, GroupsHaveEqualWorkOnGenomes) {
  const TemporaryFolder folder;
  for (const auto& [name, file, tokens] : std::vector<std::tuple<std::string, std::string, std::int64_t>>{
           {"e_coli", "/usr/share/doc/bowtie/examples/genomes/NC_008253.fna.gz", 65536},
           {"lambda", "/usr/share/doc/bowtie2/examples/reference/lambda_virus.fa.gz", 8192},
           {"reads", "/usr/share/doc/bowtie2/examples/reads/longreads.fq.gz", 8192}}) {
    if (!std::filesystem::exists(file)) continue;
    ASSERT_EQ(shell(folder, fmt::format("@causeway import {} --out {}.h5", file, name)).exit, 0);
    expect_balance(folder / (name + ".h5"), tokens);
  }
}

TEST(Balance, ASequenceResumesFromAnyCursor) {
  const TemporaryFolder folder;
  const DataMixture data = DataMixture::open({write_long_tailed(folder, 4096)}, 512);
  const PackingOptions packing{.pack_tokens = 4096};
  const auto cost = [](const Pack& pack) {
    return std::accumulate(pack.pieces.begin(), pack.pieces.end(), 0.0, [](double sum, const Piece& piece) {
      return sum + static_cast<double>(piece.size()) * static_cast<double>(piece.size());
    });
  };
  constexpr std::int64_t window = PackSequence::balanced_window, count = 2 * window + 9;
  PackSequence whole(data, packing, 1, {}, cost), plain(data, packing, 1);
  std::vector<Pack> all, in_order;
  for (std::int64_t i = 0; i < count; ++i) {
    all.push_back(whole.next());
    in_order.push_back(plain.next());
  }
  for (const std::int64_t cursor : {std::int64_t{0}, std::int64_t{1}, window - 1, window, window + 1, count - 1}) {
    PackSequence resumed(data, packing, 1, {}, cost);
    resumed.advance_to(cursor / 2);
    resumed.advance_to(cursor);
    ASSERT_EQ(resumed.cursor(), cursor);
    for (std::int64_t i = cursor; i < count; ++i) ASSERT_EQ(resumed.next(), all[static_cast<std::size_t>(i)]) << i;
  }
  // A window has the packs of the sequence, first rising, then falling.
  for (const std::int64_t begin : {std::int64_t{0}, window}) {
    const auto first = all.begin() + begin, last = first + window;
    EXPECT_TRUE(std::is_permutation(first, last, in_order.begin() + begin));
    EXPECT_TRUE(std::is_sorted(
        first, last, [&](const Pack& a, const Pack& b) { return begin == 0 ? cost(a) < cost(b) : cost(a) > cost(b); }));
  }
  PackSequence counted(data, packing, 1, {}, cost);
  const double tokens = 1.5 * 4096 * static_cast<double>(window);
  const std::int64_t packs = counted.advance_by_tokens(tokens, [](std::int64_t) {});
  EXPECT_EQ(counted.next(), all[static_cast<std::size_t>(packs)]);
}

std::vector<double> losses_of(const TemporaryFolder& folder, const std::string& run) {
  std::vector<double> losses;
  std::istringstream lines(testing::bytes_of(folder / (run + "/metrics.jsonl")));
  for (std::string line; std::getline(lines, line);)
    losses.push_back(nlohmann::json::parse(line).at("loss").get<double>());
  return losses;
}

TEST(Balance, EveryMeshTrainsOnTheSamePacksAndResumes) {
  const TemporaryFolder folder;
  write_long_tailed(folder, 256);
  const std::string train =
      "@causeway train --data long_tailed.h5 --layers attention --width 8 --heads 2 --pack-tokens 256 --dtype f64 "
      "--steps 6 --checkpoint-every 3 --transport local ";
  ASSERT_EQ(shell(folder, train + "--run alone --accumulate 4 --deal balanced").exit, 0);
  ASSERT_EQ(shell(folder, train + "--run groups --ranks 4 --data-parallel 4 --deal balanced").exit, 0);
  ASSERT_EQ(shell(folder, train + "--run in_order --ranks 4 --data-parallel 4 --deal in_order").exit, 0);
  const std::vector<double> alone = losses_of(folder, "alone"), groups = losses_of(folder, "groups");
  ASSERT_EQ(alone.size(), 6u);
  ASSERT_EQ(groups.size(), 6u);
  for (std::size_t step = 0; step < 6; ++step) EXPECT_NEAR(groups[step], alone[step], 1e-12 * alone[step]);
  EXPECT_GT(std::abs(losses_of(folder, "in_order")[0] - alone[0]), 1e-6);
  EXPECT_NE(testing::bytes_of(folder / "groups/config.ini").find("deal = balanced"), std::string::npos);
  std::filesystem::remove_all(folder / "groups/step-6");
  const Outcome resumed = shell(folder, "@causeway train --config groups/config.ini --resume auto --ranks 4");
  ASSERT_EQ(resumed.exit, 0) << resumed.err;
  EXPECT_EQ(losses_of(folder, "groups"), groups);
  EXPECT_EQ(shell(folder, "@causeway train --data long_tailed.h5 --run none --model mamba-tiny --deal dice").exit, 2);
}

/// A training that ended within the first window would get only its cheapest packs.
TEST(Balance, AShortTrainingIsDealtInOrderUnlessAsked) {
  const TemporaryFolder folder;
  write_long_tailed(folder, 64);
  const auto deal_of = [&](const std::string& run, const std::string& options) {
    const Outcome trained =
        shell(folder, fmt::format("@causeway train --data long_tailed.h5 --width 8 --heads 2 --transport local "
                                  "--pack-tokens 16 --run {} {}",
                                  run, options));
    EXPECT_EQ(trained.exit, 0) << trained.err;
    const std::string config = testing::bytes_of(folder / (run + "/config.ini"));
    const std::size_t begin = config.find("\ndeal = ") + 8;
    return config.substr(begin, config.find('\n', begin) - begin);
  };
  EXPECT_EQ(deal_of("short", "--layers attention --steps 1 --accumulate 2047"), "in_order");
  EXPECT_EQ(deal_of("asked", "--layers attention --steps 1 --deal balanced"), "balanced");
  EXPECT_EQ(deal_of("long", "--layers attention --steps 1 --accumulate 2048"), "balanced");
  EXPECT_EQ(deal_of("groups", "--layers attention --steps 2 --accumulate 512 --ranks 2 --data-parallel 2"), "balanced");
  EXPECT_EQ(deal_of("epochs", "--layers attention --epochs 0.01 --accumulate 16"), "in_order");
  EXPECT_EQ(deal_of("mamba", "--layers mamba --steps 1 --accumulate 2048"), "in_order");
  // A longer training goes on as it began.
  const Outcome resumed =
      shell(folder, "@causeway train --config short/config.ini --resume auto --steps 2 --deal balanced");
  EXPECT_EQ(resumed.exit, 0);
  EXPECT_NE((resumed.out + resumed.err).find("--deal balanced, before in_order"), std::string::npos);
}

TEST(Balance, PacksAreDealtByTheirCostAsManyToEachGroup) {
  using Dealt = std::vector<std::vector<std::size_t>>;
  const double costs[] = {1, 5, 2, 4, 3, 3};
  EXPECT_EQ(deal_by_cost(costs, 1), (Dealt{{1, 3, 4, 5, 2, 0}}));
  EXPECT_EQ(deal_by_cost(costs, 2), (Dealt{{1, 5, 0}, {3, 4, 2}}));
  EXPECT_EQ(deal_by_cost(costs, 3), (Dealt{{1, 0}, {3, 2}, {4, 5}}));
  const double equal[] = {1, 1, 1, 1};
  EXPECT_EQ(deal_by_cost(equal, 2), (Dealt{{0, 2}, {1, 3}}));
  const double one_large[] = {100, 1, 1, 1};  // a group has room for two
  EXPECT_EQ(deal_by_cost(one_large, 2), (Dealt{{0, 3}, {1, 2}}));
}

}  // namespace
}  // namespace causeway::test
