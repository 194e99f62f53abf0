#include "src/plan/prediction.hpp"

#include <gtest/gtest.h>

#include "src/model/flops.hpp"
#include "tests/src/plan/small_profile.hpp"

namespace causeway::test {
namespace {

double part(const Parts& parts, std::string_view name) {
  for (const auto& [each, value] : parts)
    if (each == name) return value;
  ADD_FAILURE() << "no part " << name;
  return 0;
}

Prediction predict_alone(const PlannedTraining& training, const PlannedMesh& mesh, const Profile& profile) {
  return predict(training, mesh, profile, plan_operators(training, profile, mesh.context, mesh.recompute));
}

/// Two blocks of width 64 that only attend, without an MLP.
PlannedTraining attention_training() {
  ModelOptions shape = preset_options("sh2-tiny");
  shape.layers = {"attention", "attention"};
  shape.ffn = 0;
  return {.shape = shape, .context = 1024};
}

TEST(Prediction, ProductsOfBlocksAndHeadAreThoseOfTheFlops) {
  const PlannedTraining training = attention_training();
  const Model model({.shape = training.shape});
  const ProductElements elements = product_elements(model);
  EXPECT_EQ(elements.blocks, 2 * 4 * 64 * 64);  // q, k, v and out
  EXPECT_EQ(elements.head, 512 * 64);
  const Segments one = Segments::equal_documents(1024, 1);
  EXPECT_EQ(training_flops(model, one), 6 * (elements.all() * 1024 + 2 * 64 * 1024.0 * 1024.0));
}

TEST(Prediction, PartsOfOneRankFollowTheirFormulas) {
  Profile profile = small_profile();
  profile.machine.copy_call_s = 0;
  const PlannedTraining training = attention_training();
  const Prediction found = predict_alone(training, {}, profile);
  const double tokens = 1024, blocks = 2 * 4 * 64 * 64, head = 512 * 64;
  EXPECT_DOUBLE_EQ(part(found.step_s, "matrix products"), 6 * (blocks + head) * tokens / (0.8 * 5e14));
  // A call of each layer, and its pairs times channels.
  const double pairs = tokens * (tokens + 1) / 2 * 64;
  const double forward = 1e-5 + pairs * 1e-14, backward = 1e-5 + pairs * 2e-14;
  const double copies = part(found.step_s, "operators") - 2 * (forward + backward);
  EXPECT_GE(copies, 0);
  EXPECT_LE(copies, 2 * 30 * tokens * 64 * 2 / 2e12);  // rotation of q and k, sums that are rounded: at most 30 tensors
  // Two norms: forward 2·4 + 2·2 bytes a value, backward 3·4 + 2 + 2. Embedding and head 4·4 + 4·2, loss 2·4 + 2.
  EXPECT_DOUBLE_EQ(part(found.step_s, "elementwise"), (2 * 64 * 28 + 64 * 24 + 512 * 10) * tokens / 2e12);
  EXPECT_EQ(part(found.step_s, "recomputation"), 0);
  EXPECT_EQ(part(found.step_s, "exchange of operators"), 0);
  EXPECT_EQ(part(found.step_s, "gradients and weights"), 0);
  // f32: 8 accesses of 4 bytes an element, and the weight.
  const auto elements = static_cast<double>(Model({.shape = training.shape}).parameters().count());
  EXPECT_NEAR(part(found.step_s, "optimizer"), elements * 34 / 2e12, elements * 2 / 2e12);
  EXPECT_DOUBLE_EQ(found.tokens_per_s, tokens / found.seconds());
  EXPECT_DOUBLE_EQ(
      found.model_flops_utilisation,
      training_flops(Model({.shape = training.shape}), Segments::equal_documents(1024, 1)) / found.seconds() / 5e14);
  EXPECT_DOUBLE_EQ(found.node_hours(3600 * found.tokens_per_s, profile), 1);
}

TEST(Prediction, DataGroupsSumGradientsAndGatherWeights) {
  Profile profile = small_profile();
  profile.machine.overlap = profile.machine.latency_overlap = 0;
  const PlannedTraining training = attention_training();
  const Prediction found = predict_alone(training, {.data = 4}, profile);
  const Model model({.shape = training.shape, .dtype = DType::bf16});
  double gradients = 0, weights = 0;
  for (const ParameterArena& arena : model.parameters().arenas()) {
    gradients += static_cast<double>(arena.elements) * 4;
    weights += static_cast<double>(arena.elements) * static_cast<double>(size_of(arena.dtype));
  }
  // Four groups: embedding, two blocks, head.
  // A group's first message is in its latency, the other two to the other three ranks have their own time.
  const double expected = 2 * 4 * (1e-5 + 2 * 1e-6) + 0.75 * (gradients + weights) / 1e11 + 0.75 * 3 * gradients / 2e12;
  EXPECT_NEAR(part(found.step_s, "gradients and weights"), expected, 1e-3 * expected);
  EXPECT_EQ(found.step_tokens, 4 * 1024);
}

TEST(Prediction, ShardedWeightsAreGatheredAsOftenAsAPassUsesThem) {
  Profile profile = small_profile();
  profile.machine.overlap = profile.machine.latency_overlap = 0;
  const PlannedTraining training = attention_training();
  const Prediction found = predict_alone(training, {.data = 4, .shard = ShardLevel::parameters}, profile);
  const Model model({.shape = training.shape, .dtype = DType::bf16});
  double gradients = 0, gathered = 0;
  for (const ParameterArena& arena : model.parameters().arenas())
    for (std::size_t group = 0; group < arena.parts.size(); ++group) {
      const auto elements = static_cast<double>(arena.parts[group].elements);
      gradients += elements * 4;
      // Embedding, blocks, head with the embedding, blocks: the last block stays from forward to backward.
      gathered += elements * static_cast<double>(size_of(arena.dtype)) * (group <= 1 ? 2 : 1);
    }
  const double expected =
      (6 + 4) * (1e-5 + 2 * 1e-6) + 0.75 * (gradients + gathered) / 1e11 + 0.75 * 3 * gradients / 2e12;
  EXPECT_NEAR(part(found.step_s, "gradients and weights"), expected, 1e-3 * expected);
}

TEST(Prediction, RoundedGradientsSendHalfTheBytes) {
  Profile profile = small_profile();
  profile.machine.overlap = profile.machine.latency_overlap = 0;
  PlannedTraining training = attention_training();
  const Prediction wide = predict_alone(training, {.data = 4}, profile);
  training.gradient_reduce_dtype = DType::bf16;
  const Prediction rounded = predict_alone(training, {.data = 4}, profile);
  const Model model({.shape = training.shape, .dtype = DType::bf16});
  double gradients = 0;
  for (const ParameterArena& arena : model.parameters().arenas()) gradients += static_cast<double>(arena.elements) * 4;
  // Half of the bytes are not sent. Three whole and two half accesses, instead of three whole ones.
  const double less = 0.75 * (gradients / 2 / 1e11 - gradients / 2e12);
  EXPECT_NEAR(part(wide.step_s, "gradients and weights") - part(rounded.step_s, "gradients and weights"), less,
              1e-3 * less);
}

TEST(Prediction, ProductsInFp8HaveTheirOwnRateAndConversions) {
  Profile profile = small_profile();
  PlannedTraining training = attention_training();
  const Prediction wide = predict_alone(training, {}, profile);
  const auto of = [&](Fp8Level level) {
    training.fp8 = level;
    return predict_alone(training, {}, profile);
  };
  // Without a rate of its own the same products, and conversions.
  EXPECT_EQ(part(of(Fp8Level::all).step_s, "matrix products"), part(wide.step_s, "matrix products"));
  EXPECT_GT(part(of(Fp8Level::all).step_s, "elementwise"), part(wide.step_s, "elementwise"));
  profile.fp8_gemm_flops_per_s = 1e15;
  const double tokens = 1024, blocks = 2 * 4 * 64 * 64, head = 512 * 64;
  EXPECT_DOUBLE_EQ(part(of(Fp8Level::all).step_s, "matrix products"), 6 * (blocks / 2 + head) * tokens / (0.8 * 5e14));
  EXPECT_DOUBLE_EQ(part(of(Fp8Level::projections).step_s, "matrix products"),
                   6 * (blocks * 0.25 + blocks * 0.75 / 2 + head) * tokens / (0.8 * 5e14));
}

TEST(Prediction, CommunicationIsHiddenAsFarAsTheProfileSays) {
  Profile profile = small_profile();
  const PlannedTraining training = attention_training();
  const auto exposed = [&](double overlap) {
    profile.machine.overlap = profile.machine.latency_overlap = overlap;
    return part(predict_alone(training, {.data = 4}, profile).step_s, "gradients and weights");
  };
  const double none = exposed(0), half = exposed(0.5), all = exposed(1);
  EXPECT_LT(half, none);
  EXPECT_LT(all, half);
  EXPECT_GE(all, 0);
}

TEST(Prediction, AnOffloadedStateIsUpdatedAtTheHostsSpeedBesideTheForwardPass) {
  Profile profile = small_profile();
  const PlannedTraining training = attention_training();
  const Prediction inside = predict_alone(training, {}, profile);
  profile.host_update_bytes_per_s = 1e9;
  const Prediction slow = predict_alone(training, {.offload_optimizer = true}, profile);
  const double on_host = part(inside.step_s, "optimizer") * 2e12 / 1e9, whole = slow.seconds();
  EXPECT_LT(part(slow.step_s, "optimizer"), on_host);
  EXPECT_GT(part(slow.step_s, "optimizer"), on_host - whole);
  EXPECT_GT(slow.memory.host_optimizer, 0);
  EXPECT_LT(slow.device_bytes, inside.device_bytes);
  // Where ranks hold whole weights, the next pass waits for all of the update.
  const Prediction waits = predict_alone(training, {.data = 2, .offload_optimizer = true}, profile);
  EXPECT_NEAR(part(waits.step_s, "optimizer"), on_host / 2, 1e-9);
  profile.host_update_bytes_per_s = 1e15;
  profile.host_link_bytes_per_s = 1e15;
  EXPECT_EQ(part(predict_alone(training, {.offload_optimizer = true}, profile).step_s, "optimizer"), 0);
}

TEST(Prediction, AZigzagLayoutBalancesAttention) {
  const Profile profile = small_profile();
  PlannedTraining training = attention_training();
  training.context = 1 << 16;
  const PlannedOperators contiguous = plan_operators(training, profile, 8, false);
  training.layout = Layout::zigzag;
  const PlannedOperators zigzag = plan_operators(training, profile, 8, false);
  EXPECT_EQ(zigzag.choices.size(), 1u);
  EXPECT_LE(zigzag.forward.computing, 1.1 * contiguous.forward.computing);
}

TEST(Prediction, RecomputationRepeatsForwardPassesOfAllBlocksButTheLast) {
  const PlannedTraining training = attention_training();
  const Profile profile = small_profile();
  const PlannedOperators operators = plan_operators(training, profile, 1, true);
  const Prediction found = predict(training, {.recompute = true}, profile, operators);
  // Without the product that makes a block's output, one of four of 64 x 64.
  const double tokens = 1024, rate = 0.8 * 5e14, product = 2 * 64 * 64 * tokens / rate;
  const double of_blocks = 2 * 3 * product + operators.repeated.computing + 2 * 64 * 12 * tokens / 2e12;
  EXPECT_NEAR(part(found.step_s, "recomputation"), of_blocks / 2, 1e-12);
  // Of blocks 0, 1, 2 with inputs of 0 only: 0 runs again for the input of 1, then 1 and 0 for their backward passes.
  PlannedTraining three = training;
  three.shape.layers.push_back("attention");
  const Prediction far = predict(three, {.recompute = true, .recompute_blocks = 3}, profile, operators);
  EXPECT_NEAR(part(far.step_s, "recomputation"),
              3 * (3 * 4 * product + operators.repeated.computing + 3 * 64 * 12 * tokens / 2e12) / 3 - 2 * product,
              1e-12);
}

TEST(Prediction, ABatchOfSeveralPacksRepeatsPassesButNotTheUpdate) {
  PlannedTraining training = attention_training();
  const Profile profile = small_profile();
  const Prediction one = predict_alone(training, {}, profile);
  training.batch_tokens = 4096;
  const Prediction four = predict_alone(training, {}, profile);
  EXPECT_EQ(accumulate_of(training, {}), 4);
  EXPECT_DOUBLE_EQ(part(four.step_s, "matrix products"), 4 * part(one.step_s, "matrix products"));
  EXPECT_DOUBLE_EQ(part(four.step_s, "optimizer"), part(one.step_s, "optimizer"));
  EXPECT_EQ(four.step_tokens, 4096);
}

TEST(Prediction, StrategiesAreThoseOfStrategyAuto) {
  const Profile profile = small_profile();
  const PlannedTraining training{.shape = preset_options("sh2-7b"), .context = 1 << 18};
  const Model model({.shape = training.shape, .dtype = DType::bf16});
  Sharding sharding(ShardLayout(training.context, 16, Layout::contiguous),
                    Segments::equal_documents(training.context, 1), 0);
  sharding.set_one_way_layers(one_way_layers(model.calls()));
  const std::vector<StrategyChoice> expected =
      choose_strategies(model.calls(), sharding, machine_of_group(profile, 16), {.repeated = 1}, {}, "");
  const PlannedOperators planned = plan_operators(training, profile, 16, true);
  ASSERT_EQ(planned.choices.size(), expected.size());
  for (std::size_t i = 0; i < expected.size(); ++i) {
    EXPECT_EQ(planned.choices[i].op, expected[i].op);
    EXPECT_EQ(planned.choices[i].strategy, expected[i].strategy);
    EXPECT_EQ(planned.choices[i].why, expected[i].why);
  }
}

TEST(Prediction, MoreRanksNeverTakeMoreMemoryARank) {
  const Profile profile = small_profile();
  for (const char* preset : {"sh2-7b", "mamba-1.4b"})
    for (const ShardLevel shard : {ShardLevel::optimizer, ShardLevel::gradients, ShardLevel::parameters})
      for (const bool by_context : {false, true}) {
        double before = 0;
        for (int ranks = 2; ranks <= 1024; ranks *= 4) {
          const PlannedTraining training{.shape = preset_options(preset), .context = 1 << 20};
          PlannedMesh mesh{.data = ranks / 2, .context = 2, .shard = shard, .recompute = true};
          if (by_context) std::swap(mesh.data, mesh.context);
          const double bytes = predict_alone(training, mesh, profile).device_bytes;
          // What a rank receives of its peers' gradients grows with (N-1)/N.
          if (ranks > 2) {
            EXPECT_LE(bytes, 1.001 * before) << preset << " " << text_of(mesh);
          }
          before = bytes;
        }
      }
}

/// The split function of sizes only, and the one that asks a running rank.
TEST(Prediction, PartsOfMemoryAddUpToADevice) {
  const PlannedTraining training{.shape = preset_options("sh2-1b"), .context = 1 << 15};
  const Prediction found = predict_alone(
      training, {.data = 2, .context = 4, .shard = ShardLevel::gradients, .recompute = true}, small_profile());
  EXPECT_DOUBLE_EQ(sum_of(tensor_parts(found.memory)), found.device_bytes);
  EXPECT_DOUBLE_EQ(sum_of(host_parts(found.memory)), found.host_bytes / 4);
  EXPECT_DOUBLE_EQ(found.host_bytes, 4 * found.memory.checkpoint);
}

}  // namespace
}  // namespace causeway::test
