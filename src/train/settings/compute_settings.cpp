#include "src/train/settings/compute_settings.hpp"

#include <fmt/format.h>

#include "parallel/choose.hpp"
#include "parallel/transport/device_transport.hpp"
#include "src/runtime/rank_stream.hpp"
#include "src/runtime/strategy_choice.hpp"

namespace causeway {
namespace {

/// Every OPERATOR=NAME that --strategy can contain.
std::vector<std::string> strategy_words() {
  std::vector<std::string> words;
  for (const ListedOperator& op : listed_operators())
    for (const ListedStrategy& strategy : op.strategies) words.push_back(fmt::format("{}={}", op.name, strategy.name));
  return words;
}

}  // namespace

OptionGroup compute_group(ComputeSettings& settings) {
  return {
      "Ranks and precision",
      {{.name = "data-parallel",
        .field = &settings.data_parallel,
        .value = "A",
        .help = "number of groups of ranks; each group works on its own packs",
        .shown_default = "0: ranks / context-parallel"},
       {.name = "context-parallel",
        .field = &settings.context_parallel,
        .value = "B",
        .help = "number of ranks that share one pack, each with its shard of the tokens",
        .shown_default = "0: ranks / data-parallel; all ranks if neither is given"},
       {"layout",
        &settings.layout,
        "",
        "which tokens of a pack a rank holds. contiguous: one run of tokens; zigzag: one run from the front and one "
        "from the back, which balances attention",
        {"contiguous", "zigzag"}},
       {.name = "strategy",
        .field = &settings.strategy,
        .value = "auto|OPERATOR=NAME,…",
        .help = "how operators communicate where a pack is cut. auto: the strategy with the lowest estimated time; "
                "train --dry-run shows the estimates, op --list all strategies",
        .suggestions = strategy_words()},
       {"schedule",
        &settings.schedule,
        "",
        "how states are passed over the ranks. chain: summaries, from neighbour to neighbour; gather: all summaries at "
        "once, with identical results; relay: no summaries, each rank scans after its neighbour, and ranks wait once a "
        "pass instead of once a layer; auto: the cheapest by an estimate for each pack",
        {"auto", "chain", "gather", "relay"}},
       {"shard",
        &settings.shard,
        "",
        "what is divided over the ranks. optimizer: the optimizer state; gradients: also the gradients; parameters: "
        "also "
        "the weights, and a block's are gathered while the block before computes. Each takes less memory than the "
        "one before; the results are the same, bit for bit. Scoring has weights only",
        {"optimizer", "gradients", "parameters"}},
       {"dtype",
        &settings.dtype,
        "",
        "type of activations and weights; states and sums are f32, or f64 with f64",
        {"f32", "f64", "bf16"}},
       {"fp8",
        &settings.fp8,
        "",
        "8-bit floats for products with weights. projections: the input projections of mixers, as Evo 2's 1B, 20B and "
        "40B models were trained; all: every dense product of the blocks. Operands are rounded to E4M3, gradients to "
        "E5M2, with a scale for each token or channel",
        {"off", "projections", "all"}},
       {"device", &settings.device, "", "device that computes", {"cpu", "cuda"}}}};
}

Runtime make_runtime(const ComputeSettings& settings, Communicator world, std::shared_ptr<RankProgress> rank_progress) {
  Device device{};
  StrategyNames strategies;
  Schedule schedule{};
  collectively(world, [&] {
    device = parse_device(settings.device);
    strategies = parse_strategies(settings.strategy, parse_layout(settings.layout));
    schedule = parse_schedule(settings.schedule);
  });
  Stream stream = make_rank_stream(device, world);
  Communicator between_devices(make_device_transport(world.transport(), stream));
  return {.stream = std::move(stream),
          .mesh = Mesh(std::move(between_devices), settings.data_parallel, settings.context_parallel),
          .strategies = std::move(strategies),
          .schedule = schedule,
          .rank_progress = std::move(rank_progress)};
}

}  // namespace causeway
