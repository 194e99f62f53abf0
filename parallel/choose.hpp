#pragma once

#include <span>
#include <string_view>
#include <variant>
#include <vector>

#include "parallel/strategy.hpp"

namespace causeway {

/// The arguments of an operator that has a table of strategies. Estimates need shapes and dtypes only: the views may
/// have no data.
using OperatorArguments = std::variant<CausalConvForward, BlockedConvForward, ModalConvForward, FftConvForward,
                                       SelectiveScanForward, RotaryAttentionForward>;

/// A call of an operator by a layer or from a file, with the operator's name as --strategy spells it.
struct OperatorCall {
  std::string_view op;
  OperatorArguments arguments;
};

inline TensorView without_data(DType dtype, Shape shape) { return view_of(nullptr, dtype, shape); }

/// The table of the operator that takes these arguments.
inline auto strategies_for(const CausalConvForward&) { return convolution_strategies(); }
inline auto strategies_for(const BlockedConvForward&) { return gated_convolution_strategies(); }
inline auto strategies_for(const ModalConvForward&) { return modal_convolution_strategies(); }
inline auto strategies_for(const FftConvForward&) { return long_convolution_strategies(); }
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

/// The estimated cost of one strategy, summed over all calls of an operator.
struct Estimate {
  std::string_view strategy;
  std::int64_t bytes_sent = 0, messages = 0;
  double computing_s = 0, communicating_s = 0;
  double seconds = 0;  ///< of both, without the communication that overlaps with computation
};

/// Estimates for every strategy that works on the sharding's layout, in the order of the table. All calls must be of
/// one operator.
std::vector<Estimate> estimates(const Sharding& sharding, std::span<const OperatorArguments> calls,
                                const Machine& machine);

/// Estimates whose ratio is at most this count as equal, and the earlier row is chosen, so that noise of the
/// measurement does not change what a run computes.
inline constexpr double equal_within = 1.10;

/// The first row whose seconds are at most equal_within times the lowest. Throws Error(internal) if there are no rows.
const Estimate& cheapest(std::span<const Estimate> rows);

}  // namespace causeway
