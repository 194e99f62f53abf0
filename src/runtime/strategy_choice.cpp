#include "src/runtime/strategy_choice.hpp"

#include <fmt/ranges.h>

#include <algorithm>
#include <set>

#include "parallel/cost/measure.hpp"
#include "src/cli/suggest.hpp"

namespace causeway {
namespace {

std::string milliseconds(double seconds) { return fmt::format("{:.4f}", 1e3 * seconds); }

}  // namespace

StrategyNames parse_strategies(const std::string& text, Layout layout) {
  StrategyNames names;
  if (text == "auto" || text.empty()) return names;
  const std::vector<ListedOperator> operators = listed_operators();
  std::set<std::string> named;
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find(',', begin), text.size());
    const std::string word = text.substr(begin, end - begin);
    begin = end + 1;
    const std::size_t equals = word.find('=');
    require(equals != std::string::npos, "--strategy has '{}', expected auto or OPERATOR=NAME", word);
    const std::string op = word.substr(0, equals), name = word.substr(equals + 1);
    const ListedOperator& listed = find_named(operators, "--strategy names operator", op);
    require(named.insert(op).second, "--strategy names operator '{}' twice", op);
    if (name == "auto") continue;
    const ListedStrategy& strategy =
        find_named(listed.strategies, fmt::format("--strategy of {} is", op), name, {"auto"});
    require(strategy.runs_on(layout), "--strategy {} does not run on layout {}", word, name_of(layout));
    names[op] = name;
  }
  return names;
}

std::string strategies_text(const StrategyNames& names) {
  if (names.empty()) return "auto";
  std::vector<std::string> words;
  for (const auto& [op, name] : names) words.push_back(fmt::format("{}={}", op, name));
  return fmt::format("{}", fmt::join(words, ","));
}

StrategyNames usable_strategies(const std::string& text, Layout layout) {
  StrategyNames names;
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find(',', begin), text.size());
    try {
      names.merge(parse_strategies(text.substr(begin, end - begin), layout));
    } catch (const Error&) {  // from another version, or for another layout: left out, so that it is chosen again
    }
    begin = end + 1;
  }
  return names;
}

StrategyChoice choose_strategy(std::string_view op, std::vector<Estimate> rows) {
  const Estimate& chosen = cheapest(rows);
  const Estimate& least = *std::ranges::min_element(rows, {}, &Estimate::seconds);
  StrategyChoice choice{
      .op = std::string(op), .strategy = std::string(chosen.strategy), .why = "the least estimated time", .rows = {}};
  if (rows.size() == 1)
    choice.why = "the only one";
  else if (&chosen != &least && chosen.seconds > least.seconds)
    choice.why =
        fmt::format("within {:.0f} % of {}, which comes later in the table", 100 * (equal_within - 1), least.strategy);
  choice.rows = std::move(rows);
  return choice;
}

std::vector<StrategyChoice> choose_strategies(std::span<const OperatorCall> calls, const Sharding& sharding,
                                              const Machine& machine, PassCounts passes, const StrategyNames& given,
                                              std::string_view why_given) {
  std::vector<std::pair<std::string_view, std::vector<OperatorArguments>>> operators;
  for (const OperatorCall& call : calls) {
    auto found = std::ranges::find(operators, call.op, [](const auto& entry) { return entry.first; });
    if (found == operators.end()) found = operators.insert(found, {call.op, {}});
    found->second.push_back(call.arguments);
  }
  std::vector<StrategyChoice> choices;
  for (const auto& [op, arguments] : operators) {
    choices.push_back(choose_strategy(op, estimates(sharding, arguments, machine, passes)));
    if (const auto fixed = given.find(op); fixed != given.end()) {
      choices.back().strategy = fixed->second;
      choices.back().why = why_given;
    }
  }
  return choices;
}

int one_way_layers(std::span<const OperatorCall> calls) {
  int layers = 0, sequences = 0;
  bool interrupted = true;
  for (const OperatorCall& call : calls) {
    const std::string_view strategy =
        std::visit([](const auto& args) { return strategies_for(args).front().name; }, call.arguments);
    if (strategy == "state_carry") {
      ++layers;
      sequences += interrupted ? 1 : 0;
      interrupted = false;
    } else if (strategy != "halo") {
      interrupted = true;
    }
  }
  return sequences == 0 ? 1 : layers / sequences;
}

std::string choose_strategies(Runtime& runtime, std::span<const OperatorCall> calls, const UsualPack& pack,
                              std::string_view why_given) {
  Mesh& mesh = runtime.mesh;
  const std::int64_t tokens = pack.tokens;
  const auto count = static_cast<std::int64_t>(static_cast<double>(tokens) / std::max(1.0, pack.document_tokens) + 0.5);
  Sharding sharding(
      ShardLayout(tokens, mesh.context.size(), pack.layout),
      Segments::equal_documents(tokens, std::clamp<std::int64_t>(count, 1, std::max<std::int64_t>(tokens, 1))),
      mesh.context.rank());
  sharding.set_one_way_layers(runtime.one_way_layers);
  const StrategyNames given = runtime.strategies.names();
  const bool one_rank = mesh.context.size() == 1;
  const bool all_given = std::ranges::all_of(calls, [&](const OperatorCall& call) { return given.contains(call.op); });
  if (one_rank || (all_given && !pack.wants_estimates)) {
    std::string text = one_rank ? "one rank sends nothing: the first strategy of each operator"
                                : "the strategy of each operator is given: nothing is measured";
    for (const OperatorCall& call : calls)
      if (!runtime.strategies.names().contains(call.op))
        std::visit([&](const auto& args) { runtime.strategies.choose(call.op, strategies_for(args).front().name); },
                   call.arguments);
    for (const auto& [op, name] : runtime.strategies.names())
      text += fmt::format("\n{}: {}{}", op, name, given.contains(op) ? fmt::format(" ({})", why_given) : "");
    return text;
  }
  const auto beat = [&] { runtime.rank_progress->heartbeat(); };
  std::vector<OperatorArguments> arguments;
  for (const OperatorCall& call : calls) arguments.push_back(call.arguments);
  Machine machine = measure_links(mesh.context, runtime.stream, beat);
  measure_kernels(machine, mesh.context, runtime.stream, arguments, timed_shape(sharding), beat);
  machine = slowest(machine, mesh.world);
  runtime.stream.memory().reset_peak();  // what was timed is no part of a step
  std::string text = machine_text(machine, mesh.context.size());
  for (const StrategyChoice& choice : choose_strategies(calls, sharding, machine, pack.passes, given, why_given)) {
    runtime.strategies.choose(choice.op, choice.strategy);
    text += '\n' + choice_text(choice);
  }
  return text + "\nschedule: " + schedule_text(runtime.schedule, sharding);
}

std::string schedule_text(Schedule schedule, const Sharding& sharding) {
  if (schedule != Schedule::automatic) return std::string(name_of(schedule));
  return fmt::format("auto, for each pack by its documents, with {} layers in one direction: {} for the usual pack",
                     sharding.one_way_layers(), relay_is_cheaper(sharding) ? "relay" : "chain or gather");
}

std::string machine_text(const Machine& machine, int ranks) {
  std::string text = fmt::format(
      "measured on {} ranks: a message takes {:.1f} µs, each further one {:.2f} µs, a rank sends {:.2f} GB/s to a "
      "neighbour, {:.2f} GB/s to all; "
      "while it computes {:.0f} % of the first and {:.0f} % of the others; copies {:.1f} GB/s (read + write)",
      ranks, machine.latency_s * 1e6, machine.message_s * 1e6, machine.bytes_per_s / 1e9, machine.all_bytes_per_s / 1e9,
      100 * machine.latency_overlap, 100 * machine.overlap, machine.copy_bytes_per_s / 1e9);
  for (const KernelRate& rate : machine.kernels)
    text += fmt::format("\n  {:<38} {:>9.2f} µs a call, {:>9.4f} ns an element", text_of(rate.kernel),
                        rate.call_s * 1e6, rate.element_s * 1e9);
  if (!machine.repeats) text += "\n  not repeatable: other programs compute on these cores";
  return text;
}

std::string choice_text(const StrategyChoice& choice) {
  std::string text =
      fmt::format("{}: {} ({})\n  {:<22} {:>15} {:>9} {:>15} {:>15} {:>15}", choice.op, choice.strategy, choice.why,
                  "strategy", "bytes sent", "messages", "computing ms", "sending ms", "total ms");
  for (const Estimate& row : choice.rows)
    text += fmt::format("\n{} {:<22} {:>15} {:>9} {:>15} {:>15} {:>15}", row.strategy == choice.strategy ? '*' : ' ',
                        row.strategy, row.bytes_sent, row.messages, milliseconds(row.computing_s),
                        milliseconds(row.communicating_s), milliseconds(row.seconds));
  return text;
}

}  // namespace causeway
