#include "src/runtime/chosen_strategies.hpp"

namespace causeway {

void ChosenStrategies::choose(std::string_view op, std::string_view strategy) {
  const auto find_in = [&](auto table, auto& row) { row = &find_strategy(table, op, strategy); };
  if (op == "causal_conv")
    find_in(convolution_strategies(), chosen_.causal_conv);
  else if (op == "hyena_se")
    find_in(hyena_block_strategies(), chosen_.hyena_se);
  else if (op == "hyena_mr")
    find_in(hyena_block_strategies(), chosen_.hyena_mr);
  else if (op == "hyena_li")
    find_in(modal_convolution_strategies(), chosen_.hyena_li);
  else if (op == "long_conv")
    find_in(long_convolution_strategies(), chosen_.long_conv);
  else if (op == "hyena_block")
    find_in(hyena_block_strategies(), chosen_.hyena_block);
  else if (op == "selective_scan")
    find_in(selective_scan_strategies(), chosen_.selective_scan);
  else if (op == "attention")
    find_in(attention_strategies(), chosen_.attention);
  else
    fail(ExitCode::usage, "a strategy is given for operator '{}', but there is no such operator", op);
  names_[std::string(op)] = strategy;
}

void ChosenStrategies::add(const StrategyNames& names) {
  for (const auto& [op, strategy] : names)
    if (!names_.contains(op)) choose(op, strategy);
}

}  // namespace causeway
