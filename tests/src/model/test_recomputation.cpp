/// `--recompute` and `--recompute-blocks`: the same bits, no product whose result nobody reads, and as much memory as
/// the formula says.

#include <gtest/gtest.h>

#include <algorithm>

#include "kernels/core/trace.hpp"
#include "src/model/activation_memory.hpp"
#include "tests/src/model_support.hpp"
#include "tests/support/threads.hpp"

namespace causeway::test {
namespace {

WholePack awkward_pack() { return random_pack(Segments({0, 1, 3, 12, 16, 46}), 11, 3); }

/// 0 blocks: without recomputation.
Model::Options with_blocks(const ModelOptions& shape, DType dtype, std::int64_t blocks) {
  return {
      .shape = shape, .dtype = dtype, .recompute = blocks > 0, .recompute_blocks = std::max<std::int64_t>(1, blocks)};
}

TEST(Recomputation, ChangesNoBit) {
  for (const DType dtype : {DType::f64, DType::f32, DType::bf16}) {
    const std::vector<WholePack> packs{awkward_pack()};
    const ModelOptions shape = dtype == DType::f32 ? small_mixed_model() : small_published_model();
    const PassResult kept = run_pass(with_blocks(shape, dtype, 0), packs, {.ranks = 3});
    for (const std::int64_t blocks : {1, 2, 3, 4, 5, 99}) {
      const PassResult again = run_pass(with_blocks(shape, dtype, blocks), packs, {.ranks = 3});
      if (IsSkipped()) return;
      EXPECT_EQ(kept.loss, again.loss);
      EXPECT_EQ(kept.gradients, again.gradients) << name_of(dtype) << ", every " << blocks << " blocks";
    }
  }
}

/// Calls run(model, pass, batch) on one rank with initial weights.
template <class Run>
void with_model(const Model::Options& options, const WholePack& pack, const Run& run) {
  on_ranks(1, [&](Communicator& world) {
    Runtime runtime = one_rank_runtime(world.split(0, 0));
    Model model(options);
    model.parameters().allocate(runtime.stream, 1);
    model.parameters().initialise(1, runtime.stream);
    const RankPack part = shard(pack, runtime, Layout::contiguous);
    run(model, Pass{runtime, *part.sharding}, part.batch());
  });
}

/// Matrix products of Model::train, or of Model::evaluate.
std::ptrdiff_t products(const Model::Options& options, bool train) {
  std::ptrdiff_t count = 0;
  with_model(options, awkward_pack(), [&](Model& model, const Pass& pass, const Batch& batch) {
    const Stream& stream = pass.runtime.stream;
    const Tensor losses(stream, accumulator_of(options.dtype), {batch.ids.size()});
    Trace trace(stream);
    stream.trace_in(&trace);
    train ? static_cast<void>(train_now(model, pass, batch)) : model.evaluate(pass, batch, losses);
    stream.trace_in(nullptr);
    trace.wait_for_times();
    count = std::ranges::count(trace.spans(), "gemm", &TraceSpan::name);
  });
  return count;
}

/// A block that runs again for its backward pass does without the last product of its last branch. A block that runs
/// again for its output, before another one, needs all. The last block does not run again.
TEST(Recomputation, ComputesNoProductWhoseResultNobodyReads) {
  for (const Layer& layer : layers())
    for (const std::int64_t ffn : {0, 10}) {
      ModelOptions shape = small_model_of(std::vector<std::string>(5, std::string(layer.name)));
      shape.ffn = ffn;
      constexpr std::ptrdiff_t blocks = 5, of_head = 1;
      if (products(with_blocks(shape, DType::f32, 0), true) == 0) return;  // this process runs no rank
      const std::ptrdiff_t of_block =
          (products(with_blocks(shape, DType::f32, 0), false) - of_head) / blocks;  // forward
      EXPECT_GE(of_block, ffn > 0 ? 4 : 2);
      const std::ptrdiff_t kept = products(with_blocks(shape, DType::f32, 0), true);
      // With every second input block 2 runs for the input of block 3, and block 0 for that of block 1; with every
      // third blocks 0 and 1 for that of block 2; with the first one only blocks 0 to 2 for that of block 3.
      for (const auto& [every, for_output] : {std::pair{1, 0}, {2, 2}, {3, 2}, {5, 3}, {99, 3}})
        EXPECT_EQ(products(with_blocks(shape, DType::f32, every), true) - kept,
                  (blocks - 1) * (of_block - 1) + for_output * of_block)
            << layer.name << ", ffn " << ffn << ", every " << every;
    }
}

/// The peak of Model::train beside the parameters, on one rank. With one thread: the formula does not count the memory
/// that kernels take for each thread.
double measured_activations(const Model::Options& options, const WholePack& pack) {
  double bytes = 0;
  with_model(options, pack, [&](Model& model, const Pass& pass, const Batch& batch) {
    MemoryPool& memory = pass.runtime.stream.memory();
    memory.reset_peak();
    const std::int64_t before = memory.live_bytes() - batch.ids.bytes() - batch.labels.bytes();
    with_threads(1, [&] { train_now(model, pass, batch); });
    bytes = static_cast<double>(memory.peak_bytes() - before);
  });
  return bytes;
}

TEST(Recomputation, TheFormulaSaysHowMuchMemoryAPassTakes) {
  const WholePack pack = random_pack(Segments({0, 40, 2048}), 11, 8);
  for (const char* layers : {"se", "mamba*5", "attention se mr li mamba se", "li*4 mamba*5"})
    for (const std::int64_t ffn : {0, 30})
      for (const std::int64_t vocabulary : {11, 2000})  // of the latter the head's tile decides
        for (const std::int64_t blocks : {0, 1, 2, 3, 99}) {
          ModelOptions shape = small_model_of(parse_layers(layers));
          shape.ffn = ffn;
          shape.vocabulary = vocabulary;
          const Model::Options options = with_blocks(shape, DType::f32, blocks);
          const ActivationBytes estimate = activation_bytes(
              shape,
              {.tokens = pack.tokens(), .recompute = options.recompute, .recompute_blocks = options.recompute_blocks});
          const double measured = measured_activations(options, pack);
          if (measured == 0) return;  // this process runs no rank
          EXPECT_NEAR(estimate.total() / measured, 1, 0.1)
              << layers << ", ffn " << ffn << ", vocabulary " << vocabulary << ", every " << blocks << " blocks";
        }
}

/// Of models whose tensors of tokens are nearly all of the memory, so that one tensor [tokens, width] too many shows.
TEST(ActivationMemory, CountsNoTensorThatHasBeenFreed) {
  const WholePack pack = random_pack(Segments({0, 40, 8192}), 11, 8);
  for (const char* layers : {"se*4", "li*4", "mamba*4", "se li se attention"})
    for (const std::int64_t ffn : {0, 64})
      for (const std::int64_t tile : {0, 256}) {
        ModelOptions shape = small_model_of(parse_layers(layers));
        shape.width = 32;
        shape.heads = shape.filter_groups = 4;
        shape.ffn = ffn;
        Model::Options options = with_blocks(shape, DType::f32, 3);
        options.block_tile = tile;
        const ActivationBytes estimate = activation_bytes(
            shape, {.tokens = pack.tokens(), .recompute = true, .recompute_blocks = 3, .block_tile = tile});
        const double measured = measured_activations(options, pack);
        if (measured == 0) return;  // this process runs no rank
        EXPECT_NEAR(estimate.total() / measured, 1, 0.02) << layers << ", ffn " << ffn << ", tile " << tile;
      }
}

TEST(ActivationMemory, CountsOperandsIn8BitFloats) {
  const WholePack pack = random_pack(Segments({0, 40, 2048}), 11, 8);
  for (const char* layers : {"se", "mamba*3", "attention", "attention se mr li mamba se"})
    for (const std::int64_t ffn : {0, 30})
      for (const Fp8Level level : {Fp8Level::off, Fp8Level::projections, Fp8Level::all}) {
        ModelOptions shape = small_model_of(parse_layers(layers));
        shape.ffn = ffn;
        const ActivationBytes estimate = activation_bytes(shape, {.tokens = pack.tokens(), .fp8 = level});
        const double measured = measured_activations({.shape = shape, .fp8 = level}, pack);
        if (measured == 0) return;  // this process runs no rank
        EXPECT_NEAR(estimate.total() / measured, 1, 0.1) << layers << ", ffn " << ffn << ", " << name_of(level);
      }
}

/// A model that is only attention, so that its buffers are most of the memory; packs long enough for slices of heads.
TEST(ActivationMemory, OfAttentionIsThatOfTheFormulaForEveryStrategyAndNumberOfRanks) {
  ModelOptions shape = small_model_of({"attention"});
  shape.width = 128;
  shape.heads = 16;
  shape.ffn = 0;
  for (const AttentionStrategy& strategy : attention_strategies())
    for (const DType dtype : {DType::f32, DType::bf16})
      for (const int ranks : {1, 2, 3, 4}) {
        if (dtype == DType::bf16 && ranks % 2 == 0) continue;
        const std::int64_t tokens = 8192;  // of a rank
        std::vector<std::int64_t> cu_seqlens;
        for (std::int64_t t = 0; t <= tokens * ranks; t += 16) cu_seqlens.push_back(t);
        const WholePack pack = random_pack(Segments(cu_seqlens), 11, 8);
        const StrategyNames names = {{"attention", std::string(strategy.name)}};
        double measured = 0;
        on_ranks(ranks, [&](Communicator& world) {
          Runtime runtime = one_rank_runtime(world.split(0, world.rank()), Schedule::automatic, names);
          Model model({.shape = shape, .dtype = dtype});
          model.parameters().allocate(runtime.stream, 1);
          model.parameters().initialise(1, runtime.stream);
          const RankPack part = shard(pack, runtime, Layout::zigzag);
          MemoryPool& memory = runtime.stream.memory();
          memory.reset_peak();
          const std::int64_t before = memory.live_bytes() - part.ids.view().bytes() - part.labels.view().bytes();
          train_now(model, Pass{runtime, *part.sharding}, part.batch());
          const std::int64_t most = world.max(memory.peak_bytes() - before);
          if (world.rank() == 0) measured = static_cast<double>(most);
        });
        if (measured == 0) return;  // this process runs no rank
        const ActivationBytes estimate =
            activation_bytes(shape, {.tokens = tokens, .context_size = ranks, .dtype = dtype, .strategies = names});
        EXPECT_NEAR(estimate.total() / measured, 1, 0.005)
            << strategy.name << ", " << name_of(dtype) << ", " << ranks << " ranks";
      }
}

TEST(Recomputation, HoldsLess) {
  const WholePack pack = random_pack(Segments({0, 40, 4096}), 11, 8);
  ModelOptions shape = small_model_of({"se", "mr", "li", "mamba", "attention", "se", "mr", "li", "mamba"});
  shape.ffn = 30;
  const auto peak = [&](std::int64_t blocks) {
    return measured_activations(with_blocks(shape, DType::f32, blocks), pack);
  };
  const double without = peak(0), every = peak(1), every_third = peak(3);
  if (without == 0) return;  // this process runs no rank
  EXPECT_LT(every / without, 0.5);
  EXPECT_LT(every_third / every, 0.95);
}

}  // namespace
}  // namespace causeway::test
