#pragma once

#include <span>
#include <string_view>
#include <variant>
#include <vector>

#include "parallel/strategy.hpp"

namespace causeway {

/// The arguments of an operator of any table. To estimate what it costs, shapes and types are enough: views may lack
/// their data.
using OperatorArguments = std::variant<CausalConvForward, BlockedConvForward, ModalConvForward, FftConvForward,
                                       SelectiveScanForward, RotaryAttentionForward>;

/// An operator as a layer or a file asks for it, by the name its strategies are forced with.
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

/// Every operator that has strategies, with their names in the tables' order.
struct ListedStrategy {
  std::string_view name;
  std::span<const Layout> layouts;
  bool runs_on(Layout layout) const;
};
struct ListedOperator {
  std::string_view name;
  std::vector<ListedStrategy> strategies;
};
std::vector<ListedOperator> listed_operators();

/// What one strategy is thought to take: sums over all the calls of an operator.
struct Estimate {
  std::string_view strategy;
  std::int64_t bytes_sent = 0, messages = 0;
  double computing_s = 0, communicating_s = 0;
  double seconds = 0;  ///< of both, less what of the communication hides behind the computation
};

/// Of every strategy that runs on the sharding's layout, in the table's order. The calls are one operator's.
std::vector<Estimate> estimates(const Sharding& sharding, std::span<const OperatorArguments> calls,
                                const Machine& machine);

/// Estimates this close count as equal, and the earlier row is taken: the noise of a measurement shall not change what
/// a run computes.
inline constexpr double indistinguishable = 1.10;

/// The first row whose seconds are within `indistinguishable` of the least. None: a defect.
const Estimate& cheapest(std::span<const Estimate> rows);

}  // namespace causeway
