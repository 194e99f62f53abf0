#pragma once

#include <map>
#include <string>
#include <string_view>

#include "parallel/strategy.hpp"

namespace causeway {

/// Operator → strategy, by name.
using StrategyNames = std::map<std::string, std::string, std::less<>>;

/// The strategy that each operator runs by; initially the first row of its table, as find_strategy(…, "auto") gives.
struct OperatorStrategies {
  const ConvolutionStrategy* causal_conv = &convolution_strategies().front();
  /// These two run a model's se and mr layers, whose featurizer is in the same operator.
  const HyenaBlockStrategy* hyena_se = &hyena_block_strategies().front();
  const HyenaBlockStrategy* hyena_mr = &hyena_block_strategies().front();
  const ModalConvolutionStrategy* hyena_li = &modal_convolution_strategies().front();
  const LongConvolutionStrategy* long_conv = &long_convolution_strategies().front();
  const HyenaBlockStrategy* hyena_block = &hyena_block_strategies().front();
  const SelectiveScanStrategy* selective_scan = &selective_scan_strategies().front();
  const AttentionStrategy* attention = &attention_strategies().front();
};

/// The strategies of a run. Each is found in its table once, when it is chosen; a pass follows the pointers.
class ChosenStrategies {
 public:
  ChosenStrategies() = default;
  ChosenStrategies(const StrategyNames& names) { add(names); }  // NOLINT: names can be given where this is expected

  /// Throws Error(usage) for an unknown operator or strategy. An earlier choice for the operator is replaced.
  void choose(std::string_view op, std::string_view strategy);
  /// Chooses the strategies of those operators for which none is chosen yet.
  void add(const StrategyNames& names);

  const StrategyNames& names() const { return names_; }  ///< of the operators for which one was chosen
  const OperatorStrategies& chosen() const { return chosen_; }

 private:
  StrategyNames names_;
  OperatorStrategies chosen_;
};

}  // namespace causeway
