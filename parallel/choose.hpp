#pragma once

#include <span>
#include <string_view>
#include <vector>

#include "parallel/cost/kernel_runs.hpp"
#include "parallel/cost/operator_arguments.hpp"
#include "parallel/strategy.hpp"

namespace causeway {

/// The table of the operator that takes these arguments.
inline auto strategies_for(const CausalConvForward&) { return convolution_strategies(); }
inline auto strategies_for(const BlockedConvForward&) { return gated_convolution_strategies(); }
inline auto strategies_for(const ModalConvForward&) { return modal_convolution_strategies(); }
inline auto strategies_for(const FftConvForward&) { return long_convolution_strategies(); }
inline auto strategies_for(const HyenaBlockForward&) { return hyena_block_strategies(); }
inline auto strategies_for(const SelectiveScanForward&) { return selective_scan_strategies(); }
inline auto strategies_for(const RotaryAttentionForward&) { return attention_strategies(); }

/// One row of a table of strategies, without its functions.
struct ListedStrategy {
  std::string_view name;
  std::span<const Layout> layouts;
  bool runs_on(Layout layout) const;
};
struct ListedOperator {
  std::string_view name;
  std::vector<ListedStrategy> strategies;  ///< in the order of the table
};
/// All operators that have strategies.
std::vector<ListedOperator> listed_operators();

/// How often a step runs each pass of an operator: with recomputation `repeated` is 1, for scores `backward` is 0.
struct PassCounts {
  double forward = 1, backward = 1, repeated = 0;
};

/// The estimated cost of one strategy, summed over all calls of an operator and all passes.
struct Estimate {
  std::string_view strategy;
  double bytes_sent = 0, messages = 0;
  double computing_s = 0, communicating_s = 0;
  double seconds = 0;  ///< of both, without the communication that overlaps with computation
};

/// Estimates for every strategy that works on the sharding's layout, in the order of the table. All calls must be of
/// one operator.
std::vector<Estimate> estimates(const Sharding& sharding, std::span<const OperatorArguments> calls,
                                const Machine& machine, PassCounts passes);

/// The part of the pack that is timed to measure kernels for its estimates (cost/measure.hpp).
TimedShape timed_shape(const Sharding& sharding);

/// Estimates whose ratio is at most this count as equal, and the earlier row is chosen: a measurement is not more
/// exact, and most of its noise then does not change what a run computes.
inline constexpr double equal_within = 1.03;

/// The first row whose seconds are at most equal_within times the lowest. Throws Error(internal) if there are no rows.
const Estimate& cheapest(std::span<const Estimate> rows);

}  // namespace causeway
