#pragma once

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

/// One dataset an operator reads.
struct OpInput {
  std::string_view name;
  /// A letter an axis, "TD": equal letters are equal sizes in every input. First letter T: a row a token, sharded; else
  /// a parameter, whole on every rank, its gradient summed over all of them.
  std::string_view shape;
  bool optional = false;
  bool accumulator = false;  ///< kept in the accumulator type: f32 under bf16

  bool per_token() const { return shape.front() == 'T'; }
};

/// One option of an operator, an attribute of the case file's root.
struct OpAttribute {
  std::string_view name;
  std::vector<std::string_view> choices;  ///< what its value may be, integers spelled in decimal; none: any number
};

/// One way to run an operator over ranks.
struct OpStrategy {
  std::string_view name;
  std::vector<Layout> layouts;
  std::vector<Device> devices;
  std::vector<std::string> variants;  ///< the options that select each, "--schedule chain"; empty: there is one
};

/// The rows of one of parallel/strategy.hpp's tables, whose kernels are these.
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

using OpViews = std::map<std::string, TensorView, std::less<>>;
using OpAttributes = std::map<std::string, std::string, std::less<>>;

/// The tensor called `name`, or an absent view.
inline TensorView find_tensor(const OpViews& tensors, std::string_view name) {
  const auto found = tensors.find(name);
  return found == tensors.end() ? TensorView{} : found->second;
}

/// The value of an attribute that may be any number.
double number_attribute(const OpAttributes& attributes, std::string_view name);

/// One operator under one strategy on one pack.
struct OpPass {
  StrategyContext context;
  std::string_view strategy;
  const OpAttributes& attributes;
  const OpViews& inputs;
};

/// One operator: what it reads and how to run it. A new operator is a file in src/op/ and a row in src/op/table.cpp;
/// the checks, the files, the ranks and the command line come with it.
struct OpRow {
  std::string_view name;
  std::vector<OpInput> inputs;  ///< y, and d_y, are like the first
  std::vector<OpAttribute> attributes;
  std::vector<std::pair<char, char>>
      divides;  ///< axes of which the first's size divides the second's: groups of channels
  void (*check)(const CaseFile&) = nullptr;  ///< throws Error(usage) for what nothing of the above can say
  std::vector<OpStrategy> strategies;
  /// What the operator's strategies take. To choose one, the inputs are shapes without data.
  OperatorArguments (*arguments)(const OpViews& inputs, const OpAttributes& attributes, TensorView y);
  /// Writes the gradients of per-token inputs and adds to those of parameters, in a map by the inputs' names.
  void (*backward)(const OpPass& pass, TensorView d_y, const OpViews& gradients, Saved& saved);

  /// Writes y, keeping in `saved` (if any) what backward takes out.
  void forward(const OpPass& pass, TensorView y, Saved* saved) const;
};
std::span<const OpRow> op_rows();

/// The row of that name, or its strategy; throws Error(usage) naming the known ones.
const OpRow& find_op(std::string_view name);
const OpStrategy& find_op_strategy(const OpRow& row, std::string_view name);

/// What `causeway op --list` prints.
std::string op_list();
/// What every operator reads, for --help: its inputs with their axes, a question mark after optional ones, and on a
/// line of their own which axes divide others, and its attributes.
std::string op_inputs_text();

}  // namespace causeway
