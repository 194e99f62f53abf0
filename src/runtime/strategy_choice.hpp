#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "parallel/choose.hpp"
#include "src/runtime/runtime.hpp"

namespace causeway {

/// Parses --strategy: "auto", or "hyena_li=fft,attention=ring", which leaves the other operators' strategies to be
/// chosen. Throws Error(usage) with the name of an operator or strategy that is unknown, or does not run on the layout.
StrategyNames parse_strategies(const std::string& text, Layout layout);
std::string strategies_text(const StrategyNames& names);  ///< the inverse

/// Those strategies of `text`, recorded by an earlier run, that exist and run on the layout.
StrategyNames usable_strategies(const std::string& text, Layout layout);

/// The strategy chosen for one operator, and the estimates of all of them.
struct StrategyChoice {
  std::string op, strategy;
  std::string why;  ///< the reason, in a few words
  std::vector<Estimate> rows;
};

/// The strategy with the lowest estimated time (cheapest()), and the reason.
StrategyChoice choose_strategy(std::string_view op, std::vector<Estimate> rows);

/// A choice for every operator among the calls, in their order: the strategy in `given`, with the reason `why_given`,
/// or else the cheapest one.
std::vector<StrategyChoice> choose_strategies(std::span<const OperatorCall> calls, const Sharding& sharding,
                                              const Machine& machine, PassCounts passes, const StrategyNames& given,
                                              std::string_view why_given);

/// Sharding::one_way_layers() of a model that makes these calls, if each operator runs by the first strategy of its
/// table: layers by state_carry, divided by the number of sequences of them between which an operator (attention)
/// exchanges data in both directions. It depends on the kinds of the layers only, not on measured times nor on
/// strategies that were chosen by them: the schedule of a pack, and with it the bits, are the same in every run.
int one_way_layers(std::span<const OperatorCall> calls);

/// A pack as the run will see it, and how often a step runs each pass.
struct UsualPack {
  Layout layout = Layout::contiguous;
  std::int64_t tokens = 0;
  double document_tokens = 0;  ///< mean length of the data's documents
  PassCounts passes;
  bool wants_estimates = false;  ///< also where every strategy is given
};

/// Chooses in runtime.strategies a strategy for every operator among a model's calls for which none is chosen yet.
/// Measures the ranks, takes the figures of the slowest one, and estimates for the usual pack, with documents of equal
/// length. Measures nothing on one rank, where the first strategy of each table is the operator's kernel, and nothing
/// where every strategy is given, unless pack.wants_estimates. Collective. Returns the texts below, which show the
/// reasons. Packs are sharded by runtime.one_way_layers, which is set before.
std::string choose_strategies(Runtime& runtime, std::span<const OperatorCall> calls, const UsualPack& pack,
                              std::string_view why_given);

/// The measured figures, one line for each kernel; and for an operator a table with one line for each strategy, in
/// which the chosen one is marked.
std::string machine_text(const Machine& machine, int ranks);
std::string choice_text(const StrategyChoice& choice);
/// Which schedule runs, and with `automatic` why.
std::string schedule_text(Schedule schedule, const Sharding& usual_pack);

}  // namespace causeway
