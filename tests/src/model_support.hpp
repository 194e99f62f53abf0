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

/// What tests of models share: small models, packs with their tokens, and a whole training pass on any ranks.
namespace causeway::test {

inline ModelOptions small_model() {
  return {.vocabulary = 11, .width = 6, .layers = {"mamba", "mamba"}, .state = 3, .expand = 2, .conv_taps = 4};
}

/// Of these layers, each with an MLP; channels that no number of ranks divides, filters longer than most shards.
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
/// Every row of the layers table, one after the other.
ModelOptions small_mixed_model();

/// A pack in full: every token and label. A document's last token has no label.
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

/// Each operator's row number `turn` of its table, counting those alone that work on the layout and beginning again
/// where they end: turns 0 … strategy_turns()-1 have every strategy in them.
StrategyNames strategies_in_turn(int turn, Layout layout);
int strategy_turns();

/// How a pass is cut.
struct Cut {
  int ranks = 1;
  Layout layout = Layout::contiguous;
  Schedule schedule = Schedule::automatic;
  StrategyNames strategies = {};
};

/// Model::train, waited for: the sum of its token losses.
double train_now(Model& model, const Pass& pass, const Batch& batch);

/// Optimizer::step, waited for: what it found.
struct OptimizerStep {
  double gradient_norm, factor;
};
OptimizerStep step_now(Optimizer& optimizer, const Stream& stream, std::int64_t step, double learning_rate,
                       double gradient_scale);

/// What every rank sees after summing: the loss, the gradient of each parameter that has one, by name, and the tokens'
/// losses in the pack's order.
struct PassResult {
  double loss = 0;
  std::map<std::string, std::vector<double>> gradients;
  std::vector<double> token_losses;
};
/// Runs each pack forth and back on a model started from `seed`, gradients summed over packs and ranks.
PassResult run_pass(const Model::Options& options, std::span<const WholePack> packs, const Cut& cut,
                    std::uint64_t seed = 7, const std::function<void(const ParameterSet&)>& change = {});

/// Parameters drawn afresh, larger than a model starts with, so that every path carries signal.
void excite(const ParameterSet& parameters);

Runtime one_rank_runtime(Communicator world, Schedule schedule = Schedule::automatic, StrategyNames strategies = {});

}  // namespace causeway::test
