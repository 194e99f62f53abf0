#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "parallel/choose.hpp"
#include "src/runtime/runtime.hpp"

namespace causeway {

/// What --strategy says: "auto", or "hyena_li=fft,attention=ring", the others chosen. Throws Error(usage) naming an
/// unknown operator or strategy, or one that does not run on the layout.
StrategyNames parse_strategies(const std::string& text, Layout layout);
std::string strategies_text(const StrategyNames& names);  ///< the inverse

/// Those of `text`, which a run wrote down earlier, that are there and run on the layout.
StrategyNames usable_strategies(const std::string& text, Layout layout);

/// One operator's strategy, beside those it was preferred to.
struct StrategyChoice {
  std::string op, strategy;
  std::string why;  ///< in a word or two
  std::vector<Estimate> rows;
};

/// The row of least estimated seconds (cheapest()), and why it is taken.
StrategyChoice choose_strategy(std::string_view op, std::vector<Estimate> rows);

/// For every operator among the calls, in their order: the one `given` names, for the reason `why_given`, or else the
/// cheapest.
std::vector<StrategyChoice> choose_strategies(std::span<const OperatorCall> calls, const Sharding& sharding,
                                              const Machine& machine, const StrategyNames& given,
                                              std::string_view why_given);

/// Names in runtime.strategies one for every operator among a model's calls that has none there yet: measures the
/// ranks, which all take the slowest one's figures, and supposes a pack of `tokens` in one document. Collective.
/// Returns the texts below, for whoever wants to know why.
std::string choose_strategies(Runtime& runtime, std::span<const OperatorCall> calls, DType dtype, Layout layout,
                              std::int64_t tokens, std::string_view why_given);

/// What was measured, in a line; and a table an operator with a line a strategy, the chosen one marked.
std::string machine_text(const Machine& machine, int ranks);
std::string choice_text(const StrategyChoice& choice);

}  // namespace causeway
