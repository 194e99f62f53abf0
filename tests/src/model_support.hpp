#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "src/model/model.hpp"
#include "src/model/optimizer.hpp"
#include "src/runtime/host_copy.hpp"
#include "tests/support/ranks.hpp"
#include "tests/support/tensors.hpp"

/// Shared by tests of models: small models, packs with their tokens, and a whole training pass on any number of ranks.
namespace causeway::test {

inline ModelOptions small_model() {
  return {.vocabulary = 11, .width = 6, .layers = {"mamba", "mamba"}, .state = 3, .expand = 2, .conv_taps = 4};
}

/// A model of these layers, each with an MLP; its filters are longer than most shards of the tests' packs.
inline ModelOptions small_model_of(std::vector<std::string> layers) {
  return {.vocabulary = 11,
          .width = 12,
          .layers = std::move(layers),
          .state = 3,
          .heads = 3,
          .filter_groups = 3,
          .se_taps = 4,
          .mr_taps = 9,
          .modes = 3,
          .ffn = 10};
}
/// A model with every layer of the layers table, in its order.
ModelOptions small_mixed_model();
/// The same with every option that the published Evo 2 models need, and an untied head for an odd vocabulary.
ModelOptions small_published_model();

/// A whole pack: every token and label. A document's last token has no label.
struct WholePack {
  Segments segments;
  std::vector<std::int32_t> ids, labels;
  std::int64_t tokens() const { return segments.tokens(); }
};
WholePack random_pack(Segments segments, std::int64_t vocabulary, std::uint64_t seed);

/// One rank's view of a pack, its tokens on the device.
struct RankPack {
  std::unique_ptr<Sharding> sharding;
  Tensor ids, labels;
  Batch batch() const { return {ids, labels}; }
};
RankPack shard(const WholePack& pack, const Runtime& runtime, Layout layout);

/// For each operator row number `turn` of its table, modulo the number of rows; only rows that work on the layout
/// count. Turns 0 to strategy_turns()-1 contain every strategy.
StrategyNames strategies_in_turn(int turn, Layout layout);
int strategy_turns();

/// How a pass is divided over ranks.
struct Cut {
  int ranks = 1;
  Layout layout = Layout::contiguous;
  Schedule schedule = Schedule::automatic;
  StrategyNames strategies = {};
};

/// Runs Model::train and waits for it. Returns the sum of the token losses.
double train_now(Model& model, const Pass& pass, const Batch& batch);

/// Runs Optimizer::step, waits for it and returns what it wrote.
struct OptimizerStep {
  double gradient_norm, factor;
};
OptimizerStep step_now(Optimizer& optimizer, const Stream& stream, std::int64_t step, double learning_rate,
                       double gradient_scale);

/// Summed over all ranks: the loss, the gradient of each parameter that has one, by name, and the tokens' losses in the
/// pack's order.
struct PassResult {
  double loss = 0;
  std::map<std::string, std::vector<double>> gradients;
  std::vector<double> token_losses;
};
/// Runs forward and backward on each pack with a model initialised from `seed`, and sums gradients over packs and
/// ranks. `change` can modify the parameters first.
PassResult run_pass(const Model::Options& options, std::span<const WholePack> packs, const Cut& cut,
                    std::uint64_t seed = 7, const std::function<void(const ParameterSet&)>& change = {});

/// Sets parameters to random values larger than the initial ones, so that every term of the model has an effect.
void excite(const ParameterSet& parameters);

/// Expects that a NaN of one token's embedding reaches the losses of that token and of those after it in its document,
/// and that all other losses keep their bits.
void expect_nan_stays_in_its_document(Fp8Level fp8, const Cut& cut, std::int64_t block_tile = 0);

Runtime one_rank_runtime(Communicator world, Schedule schedule = Schedule::automatic, StrategyNames strategies = {});

}  // namespace causeway::test
