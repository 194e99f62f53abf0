#pragma once

#include <functional>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "kernels/core/tensor.hpp"
#include "parallel/choose.hpp"
#include "parallel/layout/shard_layout.hpp"
#include "parallel/strategy.hpp"

namespace causeway {

class CaseFile;

/// One dataset that an operator reads.
struct OpInput {
  std::string_view name;
  /// One letter for each axis, as in "TD". Axes with the same letter have the same size in every input. An input whose
  /// first letter is T has one row for each token and is sharded. Any other input is a parameter: every rank holds all
  /// of it, and its gradient is summed over the ranks.
  std::string_view shape;
  bool optional = false;
  bool accumulator = false;          ///< stored in the accumulator type: f32 where the activations are bf16
  std::string_view instead_of = "";  ///< of an optional input: another one, of which a case has exactly one of both

  bool per_token() const { return shape.front() == 'T'; }
};

/// One option of an operator: an attribute of the case file's root group.
struct OpAttribute {
  std::string_view name;
  std::vector<std::string_view> choices;  ///< the values it may have, integers in decimal; empty: any number
  std::string_view otherwise = "";        ///< its value where the file does not have it; empty: the file must have it
};

/// One way to run an operator over ranks.
struct OpStrategy {
  std::string_view name;
  std::vector<Layout> layouts;
  std::vector<Device> devices;
  std::vector<std::string> variants;  ///< the options that select each variant, "--schedule chain"; empty: only one
};

using OpViews = std::map<std::string, TensorView, std::less<>>;
using OpAttributes = std::map<std::string, std::string, std::less<>>;

/// The tensor called `name`, or an absent view.
inline TensorView find_tensor(const OpViews& tensors, std::string_view name) {
  const auto found = tensors.find(name);
  return found == tensors.end() ? TensorView{} : found->second;
}

/// The value of an attribute that may be any number.
double number_attribute(const OpAttributes& attributes, std::string_view name);

/// The data of an operator: this rank's part of every tensor, by the names of the inputs, and the attributes.
/// To estimate the cost of a strategy, only shapes are needed: then the views have no data, and the gradients are
/// absent.
struct OpTensors {
  OpViews inputs, gradients;
  TensorView y, d_y;
  const OpAttributes& attributes;

  /// Sets the arguments that one input becomes: in the forward pass, in the backward pass, and its gradient there.
  void map(std::string_view name, TensorView& forward, TensorView& backward, TensorView& gradient) const {
    forward = backward = find_tensor(inputs, name);
    gradient = find_tensor(gradients, name);
  }
};

/// An operator with its strategy, its ranks and its tensors: both passes can be run any number of times.
struct BoundOperator {
  std::string_view name;
  std::function<void(Saved* saved)> forward;   ///< writes y; keeps in `saved`, if any, what backward needs
  std::function<void(Saved& saved)> backward;  ///< writes gradients of per-token inputs, adds to those of parameters
};

/// One operator: its inputs and its strategies. make_op_row() completes a row; README.md says how to add one.
struct OpRow {
  std::string_view name;
  std::vector<OpInput> inputs;  ///< y and d_y have the shape and the type of the first
  std::vector<OpAttribute> attributes;
  std::vector<std::pair<char, char>> divides;  ///< axes: the size of the first divides the size of the second
  struct Multiple {
    char axis;
    std::int64_t times;
    char of;
  };
  std::vector<Multiple> multiples = {};      ///< axes: the size of the first is so many times that of the other
  void (*check)(const CaseFile&) = nullptr;  ///< throws Error(usage) for what the members above cannot express
  std::vector<OpStrategy> strategies;
  /// The arguments of the forward pass, to estimate the cost of each strategy.
  std::function<OperatorArguments(const OpTensors&)> arguments;
  /// Finds the strategy and maps the tensors to its arguments, once for all passes. The context's sharding, ranks and
  /// stream, and the tensors' memory, must outlive the result.
  std::function<BoundOperator(std::string_view strategy, const StrategyContext&, const OpTensors&)> bind;
};

/// The strategies of one of parallel/strategy.hpp's tables. They run on a GPU if all of these kernels do.
template <class Strategy, class... Kernels>
std::vector<OpStrategy> op_strategies(std::span<const Strategy> table, const Kernels&... kernels) {
  std::vector<OpStrategy> rows;
  for (const Strategy& strategy : table) {
    rows.push_back({.name = strategy.name,
                    .layouts = {strategy.layouts.begin(), strategy.layouts.end()},
                    .devices = {Device::cpu},
                    .variants = {}});
    OpStrategy& row = rows.back();
    if ((... && (kernels.cuda != nullptr))) row.devices.push_back(Device::cuda);
    for (const Schedule schedule : strategy.schedules)
      row.variants.push_back(fmt::format("--schedule {}", name_of(schedule)));
    for (const Method method : strategy.methods) row.variants.push_back(fmt::format("--method {}", name_of(method)));
  }
  return rows;
}

/// Completes a row that has its name, inputs, attributes and rules. `map_arguments` sets the arguments of both passes
/// from the tensors; the types of these arguments select the table of strategies. `kernels` are all that the strategies
/// call.
template <class Forward, class Backward, class... Kernels>
OpRow make_op_row(OpRow row, void (*map_arguments)(const OpTensors&, Forward&, Backward&), const Kernels&... kernels) {
  const auto table = strategies_for(Forward{});
  row.strategies = op_strategies(table, kernels...);
  row.arguments = [=](const OpTensors& tensors) -> OperatorArguments {
    Forward forward;
    Backward unused;
    map_arguments(tensors, forward, unused);
    return forward;
  };
  row.bind = [=, op = row.name](std::string_view strategy, const StrategyContext& context, const OpTensors& tensors) {
    const auto* const found = &find_strategy(table, op, strategy);
    Forward forward;
    Backward backward;
    map_arguments(tensors, forward, backward);
    return BoundOperator{
        .name = op,
        .forward = [=](Saved* saved) { found->forward(context, forward, saved); },
        .backward = [=](Saved& saved) { found->backward(context, backward, saved); },
    };
  };
  return row;
}

/// All operators.
std::span<const OpRow> op_rows();

/// The row of that name, or its strategy; throws Error(usage) with the known names.
const OpRow& find_op(std::string_view name);
const OpStrategy& find_op_strategy(const OpRow& row, std::string_view name);

/// The output of `causeway op --list`.
std::string op_list();
/// The inputs of every operator, for --help: their names and axes, with a question mark after optional ones; on a
/// second line the axes that divide others, and its attributes.
std::string op_inputs_text();

}  // namespace causeway
