#include "src/plan/search.hpp"

#include <gtest/gtest.h>

#include <tuple>

#include "kernels/core/error.hpp"
#include "src/plan/report.hpp"
#include "tests/src/plan/small_profile.hpp"

namespace causeway::test {
namespace {

constexpr std::size_t many = 1000;

TEST(SearchMesh, AModelLargerThanADeviceIsGivenAShardingThatFits) {
  const PlannedTraining training{.shape = preset_options("sh2-7b"), .context = 1 << 15};
  const Profile profile = small_profile();
  const SearchResult alone = search_mesh(training, {.ranks = 1, .offload = "none"}, profile, many);
  EXPECT_FALSE(alone.best.fits);
  EXPECT_EQ(alone.fitting, 0);
  ASSERT_FALSE(alone.warnings.empty());
  EXPECT_NE(alone.warnings.front().find("does not fit"), std::string::npos);
  const SearchResult many_ranks = search_mesh(training, {.ranks = 64}, profile, many);
  EXPECT_TRUE(many_ranks.best.fits);
  EXPECT_EQ(many_ranks.best.mesh.ranks(), 64);
  EXPECT_LE(many_ranks.best.device_bytes, profile.device_bytes);
  // Whole weights, gradients and state of 6.5 G parameters do not fit into 80 GB.
  EXPECT_GT(18 * 6.4e9, profile.device_bytes);
}

TEST(SearchMesh, TheBestIsTheFastestOfThoseThatFit) {
  const PlannedTraining training{.shape = preset_options("sh2-1b"), .context = 1 << 16};
  const SearchResult found = search_mesh(training, {.ranks = 16}, small_profile(), many);
  EXPECT_EQ(std::ssize(found.runners_up) + 1, found.fitting);
  for (const Prediction& other : found.runners_up) {
    EXPECT_TRUE(other.fits);
    EXPECT_LE(equally_fast * other.tokens_per_s, found.best.tokens_per_s);
    EXPECT_FALSE(other.mesh == found.best.mesh);
  }
}

TEST(SearchMesh, OfMeshesThatAreEquallyFastTheOneWithFewerSettingsIsTaken) {
  const PlannedTraining training{.shape = preset_options("sh2-7b"), .context = 1 << 20};
  const SearchResult found = search_mesh(training, {.ranks = 1024}, built_in_profiles().front().make(), many);
  const auto settings = [](const PlannedMesh& mesh) {
    return std::tuple(int{mesh.offload_optimizer} + int{mesh.offload_activations},
                      mesh.recompute ? mesh.recompute_blocks : 0, mesh.shard);
  };
  bool was_close = false;
  for (const Prediction& other : found.runners_up) {
    if (equally_fast * found.best.tokens_per_s > other.tokens_per_s) continue;
    was_close = was_close || settings(other.mesh) > settings(found.best.mesh);
    if (other.tokens_per_s > found.best.tokens_per_s) {
      EXPECT_GT(settings(other.mesh), settings(found.best.mesh)) << text_of(other.mesh);
    }
  }
  EXPECT_TRUE(was_close);
}

TEST(SearchMesh, WhatIsGivenIsKept) {
  const PlannedTraining training{.shape = preset_options("sh2-1b"), .context = 1 << 16};
  const SearchSpace space{
      .ranks = 16, .context = 8, .shard = ShardLevel::parameters, .recompute = true, .offload = "activations"};
  const SearchResult found = search_mesh(training, space, small_profile(), many);
  const auto expect_given = [](const PlannedMesh& mesh) {
    EXPECT_EQ(mesh.data, 2);
    EXPECT_EQ(mesh.context, 8);
    EXPECT_EQ(mesh.shard, ShardLevel::parameters);
    EXPECT_TRUE(mesh.recompute);
    EXPECT_EQ(offload_of(mesh), "activations");
  };
  expect_given(found.best.mesh);
  for (const Prediction& other : found.runners_up) expect_given(other.mesh);
}

TEST(SearchMesh, ABatchLimitsTheDataGroups) {
  const PlannedTraining training{.shape = preset_options("sh2-1b"), .context = 1 << 14, .batch_tokens = 1 << 16};
  const SearchResult found = search_mesh(training, {.ranks = 64}, small_profile(), many);
  EXPECT_LE(found.best.mesh.data, 4);
  EXPECT_EQ(found.best.step_tokens, 1 << 16);
}

TEST(SearchMesh, WhatAdmitsNoMeshIsRefused) {
  const PlannedTraining training{.shape = preset_options("sh2-tiny"), .context = 4};
  const Profile profile = small_profile();
  EXPECT_THROW(search_mesh(training, {.ranks = 16, .context = 3}, profile, 3), Error);
  EXPECT_THROW(search_mesh(training, {.ranks = 16, .data = 1}, profile, 3), Error);  // more ranks than tokens
  EXPECT_THROW(search_mesh(training, {.ranks = 2, .recompute = false, .offload = "all"}, profile, 3), Error);
}

TEST(SearchMesh, TheSameArgumentsGiveTheSameReport) {
  const PlannedTraining training{.shape = preset_options("sh2-7b"), .context = 1 << 20};
  const Profile profile = built_in_profiles().front().make();
  std::string texts[2];
  for (std::string& text : texts) {
    const SearchResult found = search_mesh(training, {.ranks = 256}, profile, 20);
    text = text_of(PlanReport{"sh2-7b", training, profile, found, 1e12, 30}) +
           to_json(PlanReport{"sh2-7b", training, profile, found, 1e12, 30}).dump();
  }
  EXPECT_EQ(texts[0], texts[1]);
  EXPECT_NE(texts[0].find("fits         yes"), std::string::npos) << texts[0];
}

}  // namespace
}  // namespace causeway::test
