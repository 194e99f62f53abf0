#pragma once

#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "kernels/causal_conv.hpp"
#include "kernels/selective_scan.hpp"
#include "parallel/carry.hpp"
#include "parallel/communicator.hpp"
#include "parallel/sharding.hpp"

namespace causeway {

/// What a forward pass leaves for its backward pass: a stack of tensors. Backward pops in the reverse order of push.
class Saved {
 public:
  void push(Tensor tensor) { tensors_.push_back(std::move(tensor)); }
  Tensor pop() {
    ensure(!tensors_.empty(), "backward asks for more than forward saved");
    Tensor last = std::move(tensors_.back());
    tensors_.pop_back();
    return last;
  }
  bool empty() const { return tensors_.empty(); }

 private:
  std::vector<Tensor> tensors_;
};

/// Where a strategy runs: the pack's sharding, the ranks that share it, the stream.
struct StrategyContext {
  const Sharding& sharding;
  Communicator& ranks;
  const Stream& stream;
  Schedule schedule = Schedule::automatic;
};

inline constexpr Layout every_layout[] = {Layout::contiguous, Layout::zigzag};
inline constexpr Schedule every_schedule[] = {Schedule::chain, Schedule::gather};

/// Strategies take the kernels' own argument structs with this rank's rows as tokens and fill in `segments`, halos and states themselves. A forward
/// pushes what its backward pops. With `saved` null nothing is kept (scoring). Gradients of parameters are this rank's share: who called sums
/// them over the ranks.

struct ConvolutionStrategy {
  std::string_view name;
  std::span<const Layout> layouts;      ///< it works on
  std::span<const Schedule> schedules;  ///< to choose among; none: there is one way
  void (*forward)(const StrategyContext&, CausalConvForward, Saved*);
  void (*backward)(const StrategyContext&, CausalConvBackward, Saved&);
};
std::span<const ConvolutionStrategy> convolution_strategies();

struct SelectiveScanStrategy {
  std::string_view name;
  std::span<const Layout> layouts;
  std::span<const Schedule> schedules;
  void (*forward)(const StrategyContext&, SelectiveScanForward, Saved*);
  void (*backward)(const StrategyContext&, SelectiveScanBackward, Saved&);
};
std::span<const SelectiveScanStrategy> selective_scan_strategies();

/// The row called `name`, or the table's first for "auto"; throws Error(usage) naming the known ones.
template <class Strategy>
const Strategy& find_strategy(std::span<const Strategy> table, std::string_view op, std::string_view name) {
  if (name == "auto") return table.front();
  std::string known;
  for (const Strategy& row : table) {
    if (row.name == name) return row;
    known += fmt::format("{}{}", known.empty() ? "" : ", ", row.name);
  }
  fail(ExitCode::usage, "strategy of {} is '{}', expected one of: auto, {}", op, name, known);
}

}  // namespace causeway
