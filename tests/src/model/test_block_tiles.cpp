/// Blocks that are computed tile by tile: the results of whole packs, and the same bits with and without
/// recomputation, sharding and offloading; memory that does not grow with the tokens.

#include <gtest/gtest.h>

#include "src/model/activation_memory.hpp"
#include "tests/src/model/parameters/short_training.hpp"
#include "tests/support/threads.hpp"

namespace causeway::test {
namespace {

constexpr std::int64_t tile = 4;  // of shards with 13 to 46 tokens

WholePack awkward_pack() { return random_pack(Segments({0, 1, 3, 12, 16, 46}), 11, 3); }

Model::Options options_of(const ModelOptions& shape, DType dtype, std::int64_t block_tile, std::int64_t blocks = 0) {
  return {.shape = shape,
          .dtype = dtype,
          .recompute = blocks > 0,
          .recompute_blocks = std::max<std::int64_t>(1, blocks),
          .block_tile = block_tile};
}

TEST(BlockTiles, GiveTheLossAndTheGradientsOfTheWholePack) {
  const std::vector<WholePack> packs{awkward_pack()};
  for (const ModelOptions& shape : {small_mixed_model(), small_published_model(), small_model()})
    for (const int ranks : {1, 3})
      for (const std::int64_t blocks : {0, 1, 3}) {
        const auto run = [&](std::int64_t block_tile) {
          return run_pass(options_of(shape, DType::f64, block_tile, blocks), packs, {.ranks = ranks}, 7, excite);
        };
        const PassResult whole = run(0);
        if (IsSkipped()) return;
        for (const std::int64_t rows : {1, 4, 7, 46}) {
          const PassResult tiled = run(rows);
          EXPECT_NEAR(tiled.loss / whole.loss, 1, 1e-13) << rows;
          EXPECT_LT(relative_error(tiled.token_losses, whole.token_losses), 1e-12) << rows;
          for (const auto& [name, gradient] : whole.gradients)
            EXPECT_LT(relative_error(tiled.gradients.at(name), gradient), 1e-11) << name << ", tiles of " << rows;
        }
      }
}

TEST(BlockTiles, RecomputationChangesNoBit) {
  const std::vector<WholePack> packs{awkward_pack()};
  for (const DType dtype : {DType::f64, DType::f32, DType::bf16})
    for (const Fp8Level fp8 : {Fp8Level::off, Fp8Level::all}) {
      Model::Options options =
          options_of(fp8 == Fp8Level::off ? small_mixed_model() : small_published_model(), dtype, tile);
      options.fp8 = fp8;
      const PassResult kept = run_pass(options, packs, {.ranks = 3});
      options.recompute = true;
      for (const std::int64_t blocks : {1, 2, 3, 5, 99}) {
        options.recompute_blocks = blocks;
        const PassResult again = run_pass(options, packs, {.ranks = 3});
        if (IsSkipped()) return;
        EXPECT_EQ(kept.loss, again.loss);
        EXPECT_EQ(kept.gradients, again.gradients) << name_of(dtype) << ", every " << blocks << " blocks";
      }
    }
}

TEST(BlockTiles, ShardingAndOffloadingChangeNoBit) {
  for (const Device device : devices())
    for (const int ranks : {1, 3})
      on_ranks(ranks, device, [&](Communicator& world, const Stream& stream) {
        Training training{.model = options_of(small_published_model(), DType::bf16, tile), .passes = 2};
        const Outcome expected = train(training, ShardLevel::optimizer, world, stream, 6);
        training.model.recompute = true;
        for (const ShardLevel level : {ShardLevel::optimizer, ShardLevel::gradients, ShardLevel::parameters})
          for (const bool offload : {false, true})
            for (const std::int64_t blocks : {1, 2}) {
              training.model.recompute_blocks = blocks;
              training.offload_optimizer = training.model.offload_activations = offload;
              EXPECT_TRUE(train(training, level, world, stream, 6) == expected)
                  << name_of(level) << ", offload " << offload << ", every " << blocks << ", " << ranks << " ranks";
            }
      });
}

TEST(BlockTiles, NotANumberStaysInItsDocument) { expect_nan_stays_in_its_document(Fp8Level::off, {.ranks = 3}, tile); }

TEST(BlockTiles, TheirNumberOfTokensFollowsFromTheShape) {
  EXPECT_EQ(Model::block_tile(preset_options("sh2-tiny")), 16384);
  EXPECT_EQ(Model::block_tile(preset_options("sh2-1b")), 16384);
  EXPECT_EQ(Model::block_tile(preset_options("sh2-7b")), 16384);
  EXPECT_EQ(Model::block_tile(preset_options("sh2-40b")), 8192);
  EXPECT_EQ(Model::block_tile({.width = 1 << 20, .ffn = 1 << 22}), 1024);
}

/// The peak of a training pass beside the parameters.
double peak_of(const Model::Options& options, std::int64_t tokens) {
  double bytes = 0;
  const WholePack pack = random_pack(Segments({0, 40, tokens}), 11, 8);
  on_ranks(1, [&](Communicator& world) {
    Runtime runtime = one_rank_runtime(world.split(0, 0));
    Model model(options);
    model.parameters().allocate(runtime.stream, 1);
    model.parameters().initialise(1, runtime.stream);
    const RankPack part = shard(pack, runtime, Layout::contiguous);
    MemoryPool& memory = runtime.stream.memory();
    memory.reset_peak();
    const std::int64_t before = memory.live_bytes() - part.ids.view().bytes() - part.labels.view().bytes();
    with_threads(1, [&] { train_now(model, Pass{runtime, *part.sharding}, part.batch()); });
    bytes = static_cast<double>(memory.peak_bytes() - before);
  });
  return bytes;
}

TEST(BlockTiles, TakeTheMemoryThatTheFormulaSays) {
  for (const char* layers : {"se mr", "attention se li mamba mr"})
    for (const std::int64_t block_tile : {128, 512, 1500})
      for (const std::int64_t blocks : {0, 1, 2, 99}) {
        ModelOptions shape = small_model_of(parse_layers(layers));
        shape.width = 24;
        shape.ffn = 100;
        constexpr std::int64_t tokens = 4096;
        const Model::Options options = options_of(shape, DType::f32, block_tile, blocks);
        const double measured = peak_of(options, tokens);
        if (measured == 0) return;  // this process runs no rank
        const ActivationBytes estimate = activation_bytes(shape, {.tokens = tokens,
                                                                  .recompute = options.recompute,
                                                                  .recompute_blocks = options.recompute_blocks,
                                                                  .block_tile = block_tile});
        EXPECT_NEAR(estimate.total() / measured, 1, 0.05)
            << layers << ", tiles of " << block_tile << ", every " << blocks << " blocks";
      }
}

/// Nothing that is as wide as an MLP grows with the tokens.
TEST(BlockTiles, AWideMlpTakesNoMoreForEachToken) {
  ModelOptions narrow = small_model_of({"se", "mr", "se"}), wide = narrow;
  narrow.ffn = 10;
  wide.ffn = 1000;
  const auto bytes_a_token = [](const ModelOptions& shape) {
    const Model::Options options = options_of(shape, DType::f32, 128, 1);
    return (peak_of(options, 8192) - peak_of(options, 4096)) / 4096;
  };
  const double of_narrow = bytes_a_token(narrow);
  if (of_narrow == 0) return;  // this process runs no rank
  EXPECT_LT(bytes_a_token(wide), 1.01 * of_narrow);
}

}  // namespace
}  // namespace causeway::test
