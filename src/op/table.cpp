#include "src/op/table.hpp"

#include <fmt/ranges.h>

#include <charconv>

#include "src/cli/suggest.hpp"

namespace causeway {

// Each is defined in this folder, in the file of its operator or of its family of operators.
OpRow causal_conv_row();
OpRow hyena_se_row();
OpRow hyena_mr_row();
OpRow hyena_li_row();
OpRow long_conv_row();
OpRow hyena_block_row();
OpRow selective_scan_row();
OpRow attention_row();

std::span<const OpRow> op_rows() {
  static const std::vector<OpRow> rows = {causal_conv_row(), hyena_se_row(),    hyena_mr_row(),       hyena_li_row(),
                                          long_conv_row(),   hyena_block_row(), selective_scan_row(), attention_row()};
  return rows;
}

const OpRow& find_op(std::string_view name) { return find_named(op_rows(), "operator is", name); }

const OpStrategy& find_op_strategy(const OpRow& row, std::string_view name) {
  return find_named(row.strategies, fmt::format("strategy of {} is", row.name), name, {"auto"});
}

double number_attribute(const OpAttributes& attributes, std::string_view name) {
  const auto found = attributes.find(name);
  ensure(found != attributes.end(), "attribute {} was not read", name);
  const std::string& text = found->second;
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  ensure(error == std::errc() && end == text.data() + text.size(), "attribute {} is '{}', not a number", name, text);
  return value;
}

std::string op_list() {
  std::string text;
  for (const OpRow& row : op_rows())
    for (const OpStrategy& strategy : row.strategies) {
      std::vector<std::string_view> layouts, devices;
      for (const Layout layout : strategy.layouts) layouts.push_back(name_of(layout));
      for (const Device device : strategy.devices) devices.emplace_back(name_of(device));
      text += fmt::format("{}\t{}\t{}\t{}\t{}\n", row.name, strategy.name, fmt::join(layouts, ","),
                          fmt::join(devices, ","), fmt::join(strategy.variants, ","));
    }
  return text;
}

std::string op_inputs_text() {
  std::string text;
  for (const OpRow& row : op_rows()) {
    std::vector<std::string> inputs, rules;
    std::map<std::string_view, std::vector<std::string_view>> instead;
    for (const OpInput& input : row.inputs) {
      inputs.push_back(fmt::format("{} [{}]{}", input.name, fmt::join(input.shape, ","), input.optional ? "?" : ""));
      if (!input.instead_of.empty()) instead[input.instead_of].push_back(input.name);
    }
    for (const auto& [name, others] : instead)
      rules.push_back(fmt::format("{} or {}", name, fmt::join(others, " and ")));
    for (const auto& [axis, times, of] : row.multiples) rules.push_back(fmt::format("{} = {}·{}", axis, times, of));
    for (const auto& [groups, channels] : row.divides) rules.push_back(fmt::format("{} divides {}", groups, channels));
    for (const auto& [name, choices, otherwise] : row.attributes)
      rules.push_back(fmt::format("{} = {}{}", name,
                                  choices.empty() ? "a number" : fmt::format("{}", fmt::join(choices, " or ")),
                                  otherwise.empty() ? "" : fmt::format(" ({} if absent)", otherwise)));
    text += fmt::format("\n  {:<15} {}", row.name, fmt::join(inputs, ", "));
    if (!rules.empty()) text += fmt::format("\n  {:<15} {}", "", fmt::join(rules, ", "));
  }
  return text;
}

}  // namespace causeway
