/// Shows that the data that cross the boundaries between ranks are needed and arrive: a model learns to repeat at the
/// end of a document its first token, which is several shards before.

#include <gtest/gtest.h>

#include <cmath>
#include <mutex>

#include "src/model/optimizer.hpp"
#include "tests/src/model_support.hpp"
#include "tests/support/dropping_transport.hpp"

namespace causeway::test {
namespace {

constexpr int ranks = 4, documents_a_step = 4, window = 5;
constexpr std::int64_t tokens = 128, keys = 4, fillers = 2, question = keys + fillers;
constexpr double learned = 0.05;

/// key, random fillers, question. Only the question has a label: the key. The key is in the first of four shards, the
/// question in the last.
WholePack recall_document(std::int64_t key, std::uint64_t seed) {
  WholePack pack{
      .segments = Segments::one_document(tokens), .ids = {}, .labels = std::vector<std::int32_t>(tokens, -1)};
  const RandomStream random(seed, 17);
  pack.ids.push_back(static_cast<std::int32_t>(key));
  for (std::int64_t t = 1; t < tokens - 1; ++t)
    pack.ids.push_back(static_cast<std::int32_t>(keys + static_cast<std::int64_t>(random.below(t, fillers))));
  pack.ids.push_back(question);
  pack.labels.back() = static_cast<std::int32_t>(key);
  return pack;
}

/// A layer that uses earlier tokens, and the operator and strategy that bring them over the boundaries.
struct Carrier {
  std::string layer, op, strategy;
  Schedule schedule = Schedule::automatic;
};
const Carrier carriers[] = {{"mamba", "selective_scan", "state_carry", Schedule::chain},
                            {"mamba", "selective_scan", "state_carry", Schedule::gather},
                            {"mamba", "selective_scan", "state_carry", Schedule::relay},
                            {"li", "hyena_li", "state_carry", Schedule::chain},
                            {"li", "hyena_li", "state_carry", Schedule::gather},
                            {"attention", "attention", "ring"}};

class EveryCarrier : public testing::TestWithParam<Carrier> {};
INSTANTIATE_TEST_SUITE_P(Recall, EveryCarrier, testing::ValuesIn(carriers), [](const auto& carrier) {
  return fmt::format("{}_{}_{}", carrier.param.layer, carrier.param.strategy, name_of(carrier.param.schedule));
});

/// Trains on new documents until the loss at the answer is below `learned`, or for `steps`. Returns that loss, averaged
/// over the last few steps, on documents that the model has not seen before.
double recall_loss(const std::function<Mesh(Communicator&)>& make_mesh, const Carrier& carrier, int steps) {
  double result = NAN;
  std::mutex writing;
  on_ranks(ranks, [&](Communicator& world) {
    Runtime runtime{.stream = Stream(),
                    .mesh = make_mesh(world),
                    .strategies = StrategyNames{{carrier.op, carrier.strategy}},
                    .schedule = carrier.schedule};
    Model model({.shape = {.vocabulary = question + 1, .width = 32, .layers = {carrier.layer}}});
    model.parameters().allocate(runtime.stream, runtime.mesh.world, {.several_passes = true});
    model.parameters().initialise(1, runtime.stream);
    Optimizer optimizer({.weight_decay = 0}, model.parameters(), world, runtime.stream);
    double mean = 0;
    for (int step = 1; step <= steps && (step <= window || mean > learned); ++step) {
      model.parameters().zero_gradients(runtime.stream);
      double loss = 0;
      for (int k = 0; k < documents_a_step; ++k) {
        const RankPack part = shard(recall_document(k % keys, static_cast<std::uint64_t>(step * documents_a_step + k)),
                                    runtime, Layout::contiguous);
        loss += train_now(model, {runtime, *part.sharding}, part.batch()) / documents_a_step;
      }
      loss = world.sum(loss);
      step_now(optimizer, runtime.stream, step, 0.01 * std::min(1.0, step / 20.0), 1.0 / documents_a_step);
      mean = step == 1 ? loss : mean + (loss - mean) / window;  // running mean over about `window` steps
    }
    const std::lock_guard lock(writing);
    if (world.rank() == 0) result = mean;
  });
  return result;
}

TEST_P(EveryCarrier, TheFirstTokenIsKnownSeveralShardsLater) {
  const double loss =
      recall_loss([](Communicator& world) { return Mesh(world.split(0, world.rank()), 1, ranks); }, GetParam(), 600);
  if (IsSkipped()) return;
  if (!std::isnan(loss)) {
    EXPECT_LT(loss, 0.1);
  }
}

TEST_P(EveryCarrier, TheFirstTokenIsUnknownIfRanksReceiveNothing) {
  const double loss =
      recall_loss([](Communicator& world) { return Mesh(groups_receiving_zeros(world), 1, ranks); }, GetParam(), 150);
  if (IsSkipped()) return;
  if (!std::isnan(loss)) {
    EXPECT_GT(loss, 1.3);
  }
}

}  // namespace
}  // namespace causeway::test
