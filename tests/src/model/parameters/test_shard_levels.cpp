/// Training with every level of sharding: the same bits on the same ranks, and the memory that each level saves.

#include <gtest/gtest.h>

#include "tests/src/model/parameters/short_training.hpp"

namespace causeway::test {
namespace {

void expect_same_bits_at_every_level(const Training& training, int ranks, const std::string& name) {
  SCOPED_TRACE(
      fmt::format("{} on {} ranks, data parallel {}, {} passes", name, ranks, training.data_parallel, training.passes));
  for (const Device device : devices())
    on_ranks(ranks, device, [&](Communicator& world, const Stream& stream) {
      const Outcome expected = train(training, ShardLevel::optimizer, world, stream);
      EXPECT_GT(expected.norms.back(), 0.2);  // which is clipped
      for (const ShardLevel level : {ShardLevel::gradients, ShardLevel::parameters})
        EXPECT_TRUE(train(training, level, world, stream) == expected) << name_of(level);
    });
}

class OnRanks : public testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(ShardLevels, OnRanks, testing::Values(1, 2, 3, 4));

TEST_P(OnRanks, EveryLevelGivesTheSameBits) {
  const auto shapes = {std::pair{"tied", small_mixed_model()}, std::pair{"published", small_published_model()}};
  for (const auto& [name, shape] : shapes)
    for (const DType dtype : {DType::f32, DType::f64, DType::bf16})
      for (const int passes : {1, 3}) {
        if (GetParam() == 1 && (dtype != DType::f32 || passes != 1)) continue;  // there all levels are one
        expect_same_bits_at_every_level({.model = {.shape = shape, .dtype = dtype}, .passes = passes}, GetParam(),
                                        fmt::format("{} {}", name, name_of(dtype)));
      }
}

TEST_P(OnRanks, SumsAfterAPassHaveTheBitsOfSumsBesideIt) {
  for (const int passes : {1, 3}) {
    const Training beside{.model = {.shape = small_mixed_model()}, .passes = passes};
    Training after = beside;
    after.one_way_layers = 4;
    for (const Device device : devices())
      on_ranks(GetParam(), device, [&](Communicator& world, const Stream& stream) {
        for (const ShardLevel level : {ShardLevel::optimizer, ShardLevel::gradients})
          EXPECT_TRUE(train(after, level, world, stream) == train(beside, level, world, stream)) << name_of(level);
      });
  }
}

TEST_P(OnRanks, EveryLevelGivesTheSameBitsWithRecomputationAndKeptBlocks) {
  if (GetParam() == 1) return;
  for (const std::int64_t blocks : {1, 2, 3})
    for (const std::int64_t kept : {0, 2})
      expect_same_bits_at_every_level({.model = {.shape = small_published_model(),
                                                 .recompute = true,
                                                 .recompute_blocks = blocks,
                                                 .keep_blocks = kept}},
                                      GetParam(), fmt::format("recompute {} keep {}", blocks, kept));
}

TEST_P(OnRanks, EveryLevelGivesTheSameBitsWithDataParallelRanks) {
  for (const int passes : {1, 2})
    expect_same_bits_at_every_level(
        {.model = {.shape = small_mixed_model()}, .data_parallel = GetParam(), .passes = passes}, GetParam(), "data");
  if (GetParam() == 4)
    expect_same_bits_at_every_level({.model = {.shape = small_mixed_model()}, .data_parallel = 2}, 4, "mesh 2 × 2");
}

TEST_P(OnRanks, EveryLevelGivesTheSameBitsWithGradientsThatTravelInBf16) {
  for (const DType dtype : {DType::f32, DType::f64, DType::bf16})
    for (const int passes : {1, 3}) {
      Training training{.model = {.shape = small_published_model(), .dtype = dtype},
                        .passes = passes,
                        .gradient_reduce_dtype = DType::bf16};
      expect_same_bits_at_every_level(training, GetParam(), fmt::format("sent in bf16 {}", name_of(dtype)));
      on_ranks(GetParam(), [&](Communicator& world) {
        const Outcome rounded = train(training, ShardLevel::gradients, world, Stream(), 1);
        Training exactly = training;
        exactly.gradient_reduce_dtype = {};
        const Outcome exact = train(exactly, ShardLevel::gradients, world, Stream(), 1);
        EXPECT_EQ(rounded.losses, exact.losses);
        EXPECT_NEAR(rounded.norms[0] / exact.norms[0], 1, 1e-3);
        EXPECT_LT(relative_error(rounded.first_moments, exact.first_moments), 0x1p-8);
        EXPECT_EQ(rounded.norms == exact.norms, world.size() == 1);  // nothing is sent on one rank
      });
    }
}

TEST(ShardLevels, EachLevelTakesLessMemory) {
  const Training training{
      .model = {.shape = {.vocabulary = 11, .width = 64, .layers = std::vector<std::string>(12, "mamba")}}};
  on_ranks(4, [&](Communicator& world) {
    const auto peak = [&](ShardLevel level) {
      return static_cast<double>(train(training, level, world, Stream(), 2).peak_bytes);
    };
    const double optimizer = peak(ShardLevel::optimizer), gradients = peak(ShardLevel::gradients),
                 parameters = peak(ShardLevel::parameters);
    EXPECT_LT(gradients, 0.85 * optimizer);
    EXPECT_LT(parameters, 0.85 * gradients);
  });
}

TEST(ShardLevels, APassThatUsesOtherWeightsThanPlannedIsAnError) {
  on_ranks(2, [](Communicator& world) {
    const Stream stream;
    ParameterSet parameters(DType::f32);
    parameters.add({.name = "a", .shape = {3}, .initial = initial::constant(1)});
    parameters.begin_group();
    const Parameter& second = parameters.add({.name = "b", .shape = {5}, .initial = initial::constant(2)});
    parameters.allocate(stream, world, {.level = ShardLevel::parameters});
    parameters.initialise(1, stream);
    EXPECT_EQ(second.weight.data, nullptr);
    parameters.begin_pass({.steps = {{0}, {1}}, .kept = {}}, stream);
    EXPECT_THROW(parameters.use({1}, stream), Error);
    parameters.use({0}, stream);
    EXPECT_EQ(second.weight.data, nullptr);
    parameters.use({1}, stream);
    EXPECT_EQ(values_of(second.weight), std::vector<double>(5, 2));
    parameters.end_pass();
    EXPECT_EQ(second.weight.data, nullptr);
  });
}

}  // namespace
}  // namespace causeway::test
