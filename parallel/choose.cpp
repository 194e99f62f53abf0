#include "parallel/choose.hpp"

#include <algorithm>

#include "kernels/core/integer.hpp"

namespace causeway {
namespace {

bool contains(std::span<const Layout> layouts, Layout layout) {
  return std::ranges::find(layouts, layout) != layouts.end();
}

template <class Strategy>
ListedOperator listed(std::string_view op, std::span<const Strategy> table) {
  ListedOperator listed{.name = op, .strategies = {}};
  for (const Strategy& row : table) listed.strategies.push_back({.name = row.name, .layouts = row.layouts});
  return listed;
}

}  // namespace

bool ListedStrategy::runs_on(Layout layout) const { return contains(layouts, layout); }

std::vector<ListedOperator> listed_operators() {
  return {listed("causal_conv", convolution_strategies()),       listed("hyena_se", gated_convolution_strategies()),
          listed("hyena_mr", gated_convolution_strategies()),    listed("hyena_li", modal_convolution_strategies()),
          listed("long_conv", long_convolution_strategies()),    listed("hyena_block", hyena_block_strategies()),
          listed("selective_scan", selective_scan_strategies()), listed("attention", attention_strategies())};
}

std::vector<Estimate> estimates(const Sharding& sharding, std::span<const OperatorArguments> calls,
                                const Machine& machine, PassCounts passes) {
  std::vector<Estimate> rows;
  const auto add = [&](Estimate& row, const Cost& cost, double times) {
    if (times == 0) return;
    row.bytes_sent += times * static_cast<double>(cost.bytes_sent);
    row.messages += times * static_cast<double>(cost.messages);
    row.computing_s += times * computing_seconds(cost, machine);
    row.communicating_s += times * communicating_seconds(cost, machine);
    row.seconds += times * seconds(cost, machine);
  };
  for (std::size_t call = 0; call < calls.size(); ++call)
    std::visit(
        [&](const auto& arguments) {
          std::size_t next = 0;
          for (const auto& strategy : strategies_for(arguments)) {
            if (!contains(strategy.layouts, sharding.layout().kind())) continue;
            if (call == 0) rows.push_back({.strategy = strategy.name});
            ensure(next < rows.size() && rows[next].strategy == strategy.name,
                   "estimates: the calls are of different operators");
            Estimate& row = rows[next++];
            const PassCosts costs = strategy.cost(sharding, arguments);
            add(row, costs.forward, passes.forward);
            add(row, costs.backward, passes.backward);
            add(row, costs.repeated, passes.repeated);
          }
        },
        calls[call]);
  return rows;
}

TimedShape timed_shape(const Sharding& sharding) {
  const ShardLayout& layout = sharding.layout();
  return {.local_tokens = ceil_div(layout.tokens(), layout.ranks()),
          .longest_document = sharding.whole_pack().longest_document,
          .ranks = layout.ranks()};
}

const Estimate& cheapest(std::span<const Estimate> rows) {
  ensure(!rows.empty(), "cheapest: no strategy to choose from");
  const double least = std::ranges::min(rows, {}, &Estimate::seconds).seconds;
  return *std::ranges::find_if(rows, [&](const Estimate& row) { return row.seconds <= equal_within * least; });
}

}  // namespace causeway
