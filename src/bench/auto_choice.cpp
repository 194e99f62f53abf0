#include "src/bench/auto_choice.hpp"

#include <algorithm>

namespace causeway {
namespace {

/// One line of the comparison.
struct Comparison {
  const AutoChoice& of;
  std::string_view taken, fastest;
  double taken_s, fastest_s;
};

std::vector<Comparison> comparisons(std::span<const AutoChoice> choices) {
  std::vector<Comparison> lines;
  for (const AutoChoice& choice : choices) {
    const std::string_view taken = cheapest(choice.estimated).strategy;
    const auto found = choice.measured.find(taken);
    if (found == choice.measured.end()) continue;
    const auto fastest = std::ranges::min_element(choice.measured, {}, [](const auto& row) { return row.second; });
    lines.push_back({choice, taken, fastest->first, found->second, fastest->second});
  }
  return lines;
}

}  // namespace

const Estimate& AutoChoice::estimate_of(std::string_view strategy) const {
  const auto found = std::ranges::find(estimated, strategy, &Estimate::strategy);
  ensure(found != estimated.end(), "{} has no strategy {}", op, strategy);
  return *found;
}

void AutoChoice::add(std::string_view strategy, double seconds) {
  const auto [row, first] = measured.emplace(strategy, seconds);
  if (!first) row->second = std::min(row->second, seconds);
}

std::string text_of(std::span<const AutoChoice> choices) {
  std::string text = fmt::format("{:<16} {:>8} {:>9}  {:<20} {:>9}  {:<20} {:>9} {:>8}\n", "--strategy auto", "tokens",
                                 "documents", "takes", "ms", "fastest", "ms", "slower");
  for (const Comparison& line : comparisons(choices))
    text += fmt::format("{:<16} {:>8} {:>9}  {:<20} {:>9.2f}  {:<20} {:>9.2f} {:>6.1f} %\n", line.of.op, line.of.tokens,
                        line.of.documents, line.taken, line.taken_s * 1e3, line.fastest, line.fastest_s * 1e3,
                        100 * (line.taken_s / line.fastest_s - 1));
  return text;
}

nlohmann::ordered_json to_json(std::span<const AutoChoice> choices) {
  nlohmann::ordered_json entries = nlohmann::ordered_json::array();
  for (const Comparison& line : comparisons(choices))
    entries.push_back({{"operator", line.of.op},
                       {"tokens", line.of.tokens},
                       {"documents", line.of.documents},
                       {"auto", line.taken},
                       {"auto_milliseconds", line.taken_s * 1e3},
                       {"fastest", line.fastest},
                       {"fastest_milliseconds", line.fastest_s * 1e3}});
  return entries;
}

nlohmann::ordered_json to_json(const Machine& machine) {
  nlohmann::ordered_json kernels = nlohmann::ordered_json::array();
  for (const KernelRate& rate : machine.kernels)
    kernels.push_back({{"kernel", text_of(rate.kernel)}, {"call_s", rate.call_s}, {"element_s", rate.element_s}});
  return {{"latency_s", machine.latency_s},
          {"message_s", machine.message_s},
          {"bytes_per_s", machine.bytes_per_s},
          {"all_bytes_per_s", machine.all_bytes_per_s},
          {"overlap", machine.overlap},
          {"latency_overlap", machine.latency_overlap},
          {"copy_bytes_per_s", machine.copy_bytes_per_s},
          {"copy_call_s", machine.copy_call_s},
          {"kernels", std::move(kernels)}};
}

}  // namespace causeway
