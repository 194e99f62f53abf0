/// Training with every level of sharding: the same bits on the same ranks, and the memory that each level saves.

#include <gtest/gtest.h>

#include "src/model/model_update.hpp"
#include "tests/src/model_support.hpp"

namespace causeway::test {
namespace {

struct Training {
  Model::Options model;
  int data_parallel = 1;
  int passes = 1;  ///< of a step
  std::optional<DType> gradients_travel_as = {};
};

/// What a rank has after some steps. Losses and norms are those of all ranks; weights and moments this rank's.
struct Outcome {
  std::vector<double> losses, norms, state;
  std::vector<double> first_moments;  // after one step: the gradients times a number
  std::int64_t peak_bytes = 0;
  bool operator==(const Outcome& other) const {
    return losses == other.losses && norms == other.norms && state == other.state;
  }
};

Outcome train(const Training& training, ShardLevel level, Communicator& world, const Stream& stream, int steps = 3) {
  Runtime runtime{.stream = stream, .mesh = Mesh(world.split(0, world.rank()), training.data_parallel, 0)};
  Model model(training.model);
  ParameterSet& parameters = model.parameters();
  parameters.allocate(
      runtime.stream, runtime.mesh.world,
      {.level = level, .several_passes = training.passes > 1, .gradients_travel_as = training.gradients_travel_as});
  parameters.initialise(3, runtime.stream);
  Optimizer optimizer({.clip = 0.2}, parameters, runtime.mesh.world, runtime.stream);
  ModelUpdate update(runtime, model, optimizer);
  update.update_beside_passes();
  Outcome outcome;
  for (int step = 1; step <= steps; ++step) {
    update.begin();
    for (int pass = 0; pass < training.passes; ++pass) {
      const auto seed = static_cast<std::uint64_t>((step * 10 + pass) * 10 + runtime.mesh.data_index);
      const RankPack part = shard(random_pack(Segments({0, 5, 26, 37}), training.model.shape.vocabulary, seed), runtime,
                                  Layout::contiguous);
      update.add(*part.sharding, part.batch(), 34);
    }
    update.update(step, 0.01, 34.0 * training.passes * training.data_parallel);
    const ModelUpdate::Result result = update.wait_for_result();
    outcome.losses.push_back(result.loss);
    outcome.norms.push_back(result.gradient_norm);
  }
  outcome.peak_bytes = runtime.stream.memory().peak_bytes();
  const RankPack part =
      shard(random_pack(Segments({0, 5, 26, 37}), training.model.shape.vocabulary, 1), runtime, Layout::contiguous);
  const Tensor losses(runtime.stream, accumulator_of(training.model.dtype), {part.sharding->local_tokens()});
  model.evaluate({runtime, *part.sharding}, part.batch(), losses);
  outcome.state = host_values<double>(runtime.stream, losses);
  const auto append = [&](TensorView values) {
    for (const double value : host_values<double>(runtime.stream, values)) outcome.state.push_back(value);
  };
  for (const ShardPiece& piece : parameters.pieces()) append(parameters.weights_of(piece));
  for (const Optimizer::Shard& shard : optimizer.shards())
    if (shard.exp_avg.present())
      for (const double value : host_values<double>(runtime.stream, shard.exp_avg))
        outcome.first_moments.push_back(value);
  for (const Optimizer::Shard& shard : optimizer.shards())
    if (shard.master.present())
      for (const Tensor* values : {&shard.master, &shard.exp_avg, &shard.exp_avg_sq}) append(*values);
  return outcome;
}

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
                        .gradients_travel_as = DType::bf16};
      expect_same_bits_at_every_level(training, GetParam(), fmt::format("travelling bf16 {}", name_of(dtype)));
      on_ranks(GetParam(), [&](Communicator& world) {
        const Outcome rounded = train(training, ShardLevel::gradients, world, Stream(), 1);
        Training exactly = training;
        exactly.gradients_travel_as = {};
        const Outcome exact = train(exactly, ShardLevel::gradients, world, Stream(), 1);
        EXPECT_EQ(rounded.losses, exact.losses);
        EXPECT_NEAR(rounded.norms[0] / exact.norms[0], 1, 1e-3);
        EXPECT_LT(relative_error(rounded.first_moments, exact.first_moments), 0x1p-8);
        EXPECT_EQ(rounded.norms == exact.norms, world.size() == 1);  // nothing travels on one rank
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
