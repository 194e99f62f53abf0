#include <fmt/format.h>

#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>

#include "io/atomic_file.hpp"
#include "src/bench.hpp"
#include "src/bench_strategies.hpp"
#include "src/command.hpp"
#include "src/cores.hpp"

namespace causeway {
namespace {

constexpr std::int64_t short_document = 8, longest_quadratic = 8192;  // tokens

struct Topic {
  std::string_view name;
  std::string_view summary;
  ExitCode (*run)(const BenchSettings&);
};

ExitCode run_operators(const BenchSettings& settings);
ExitCode run_strategies(const BenchSettings& settings);

constexpr Topic topics[] = {
    {"operators", "every operator of a Mamba, forward and backward, on one pack, on this process alone", run_operators},
    {"strategies",
     "every operator under every strategy, over ranks: milliseconds, the seconds of communication that the computation "
     "waits for (exposed) and does not (hidden), bytes and messages, each the largest rank's",
     run_strategies},
};

CommandLine declare(BenchSettings& settings) {
  std::vector<std::string> names;
  std::string summaries;
  for (const Topic& topic : topics) {
    names.emplace_back(topic.name);
    summaries += fmt::format("\n  {}: {}", topic.name, topic.summary);
  }
  return {.usage = "[TOPIC] [options]",
          .description = "Measures this machine. operators: median milliseconds, GB/s over the bytes that have to travel at least once, and how that compares with a "
                         "memory copy measured first in the same run. A cache can take it above 100 %.\n\nTopics:" + summaries,
          .groups = {{"Measuring",
                      {{"topic", &settings.topic, "TOPIC", "what to measure", names, true},
                       {"filter", &settings.filter, "WORDS", "only what has this in its name: \"scan backward\""},
                       {"dtype", &settings.dtype, "", "type of activations and weights", {"f32", "f64", "bf16"}},
                       {"tokens", &settings.tokens, "N", "length of the pack, with --channels; 0: the built-in sizes"},
                       {"channels", &settings.channels, "N", "width"},
                       {"seconds", &settings.least_seconds, "S", "measure each at least this long"},
                       {"json", &settings.json, "FILE", "write the figures here too"}}},
                     launch_group(settings.launch)},
          .examples = "causeway bench operators\nmpirun -n 4 causeway bench strategies\nOMP_NUM_THREADS=1 causeway bench operators --filter scan --json scan.json"};
}

void print(const Measurement& row, double copy) {
  const double rate = row.gigabytes_per_second();
  fmt::print("{:<24} {:>14} {:>9} {:>10.3f} {:>8.2f} {:>7.1f} % {:>9}\n", row.name, row.shape, row.documents > 0 ? fmt::to_string(row.documents) : "",
             row.seconds * 1e3, rate, 100 * rate / copy, row.flops > 0 ? fmt::format("{:.1f}", row.flops / row.seconds / 1e9) : "");
  std::fflush(stdout);
}

nlohmann::json to_json(const Measurement& row, double copy) {
  return {{"name", row.name},   {"shape", row.shape}, {"documents", row.documents}, {"milliseconds", row.seconds * 1e3},
          {"bytes", row.bytes}, {"gigabytes_per_second", row.gigabytes_per_second()}, {"part_of_copy", row.gigabytes_per_second() / copy},
          {"gigaflops", row.flops / row.seconds / 1e9}};
}

void write_json(const BenchSettings& settings, const nlohmann::json& rows) {
  if (settings.json.empty()) return;
  AtomicFile file(settings.json);
  std::ofstream(file.temporary()) << nlohmann::json{{"topic", settings.topic}, {"dtype", settings.dtype}, {"results", rows}}.dump(2) << '\n';
  file.commit();
}

ExitCode run_operators(const BenchSettings& settings) {
  return run_alone([&] {
    compute_with(fair_threads(1));
    fmt::print("{:<24} {:>14} {:>9} {:>10} {:>8} {:>9} {:>9}\n", settings.dtype, "[tokens, D]", "documents", "ms", "GB/s", "of a copy", "GFLOP/s");
    const Measurement copy = measure_copy(Stream(), settings.least_seconds);
    const double copy_rate = copy.gigabytes_per_second();
    nlohmann::json rows = nlohmann::json::array();
    const auto report = [&](const Measurement& row) {
      print(row, copy_rate);
      rows.push_back(to_json(row, copy_rate));
    };
    report(copy);
    bench_operators(settings, report);
    write_json(settings, rows);
    return ExitCode::ok;
  });
}

/// One line, and one entry of the JSON.
nlohmann::json report_strategy(const StrategyWorkload& work, const StrategyMeasurement& measured, bool speaks) {
  const std::string name = fmt::format("{} {}{}{}", work.row.name, work.strategy.name, work.variant.empty() ? "" : " ", work.variant);
  if (speaks) {
    fmt::print("{:<46} {:>8} {:>9} {:>10.2f} {:>11.2f} {:>10.2f} {:>9.2f} {:>12} {:>8}\n", name, work.tokens, work.documents, measured.forward_s * 1e3,
               measured.backward_s * 1e3, measured.exposed_s * 1e3, measured.hidden_s * 1e3, measured.bytes_sent, measured.messages_sent);
    std::fflush(stdout);
  }
  return {{"operator", work.row.name},
          {"strategy", work.strategy.name},
          {"variant", work.variant},
          {"tokens", work.tokens},
          {"channels", work.channels},
          {"documents", work.documents},
          {"forward_milliseconds", measured.forward_s * 1e3},
          {"backward_milliseconds", measured.backward_s * 1e3},
          {"exposed_s", measured.exposed_s},
          {"hidden_s", measured.hidden_s},
          {"bytes_sent", measured.bytes_sent},
          {"messages_sent", measured.messages_sent},
          {"memory_bytes", measured.memory_bytes}};
}

ExitCode run_strategies(const BenchSettings& settings) {
  require(settings.tokens >= 0 && settings.channels >= 0 && (settings.tokens > 0) == (settings.channels > 0),
          "--tokens {} and --channels {}: expected both, and positive", settings.tokens, settings.channels);
  require(settings.channels % 8 == 0, "--channels is {}, expected a multiple of 8", settings.channels);
  const std::int64_t channels = settings.channels > 0 ? settings.channels : 64;
  const std::vector<std::int64_t> lengths = settings.tokens > 0 ? std::vector{settings.tokens} : std::vector<std::int64_t>{4096, 16384};
  return launch(settings.launch, [&](Communicator world) {
    const bool speaks = world.rank() == 0;
    if (speaks)
      fmt::print("{:<46} {:>8} {:>9} {:>10} {:>11} {:>10} {:>9} {:>12} {:>8}\n", fmt::format("{}, {} ranks, {} channels", settings.dtype, world.size(), channels),
                 "tokens", "documents", "forward ms", "backward ms", "exposed ms", "hidden ms", "bytes sent", "messages");
    nlohmann::json rows = nlohmann::json::array();
    for (const OpRow& row : op_rows())
      for (const OpStrategy& strategy : row.strategies) {
        if (fmt::format("{} {}", row.name, strategy.name).find(settings.filter) == std::string::npos) continue;
        std::vector<std::string> variants = strategy.variants;
        if (variants.empty()) variants.emplace_back();
        for (const std::string& variant : variants)
          for (const std::int64_t tokens : lengths)
            for (const std::int64_t documents : {std::int64_t{1}, std::max<std::int64_t>(tokens / short_document, 1)}) {
              const bool quadratic = row.name == "attention" || variant == "--method direct";
              if (quadratic && documents == 1 && tokens > longest_quadratic) continue;
              const StrategyWorkload work{.row = row, .strategy = strategy, .variant = variant, .dtype = parse_dtype(settings.dtype),
                                          .tokens = tokens, .documents = documents, .channels = channels};
              rows.push_back(report_strategy(work, measure_strategy(work, world, 3, settings.least_seconds), speaks));
            }
      }
    collectively(world, [&] {
      if (speaks) write_json(settings, rows);
    });
    return ExitCode::ok;
  });
}

ExitCode execute(const BenchSettings& settings) {
  const Topic* topic = std::find_if(std::begin(topics), std::end(topics), [&](const Topic& each) { return each.name == settings.topic; });
  ensure(topic != std::end(topics), "bench has no topic '{}'", settings.topic);
  return topic->run(settings);
}

}  // namespace

Command bench_command() { return make_command<BenchSettings, declare, execute>("bench", "measure this machine's operators"); }

}  // namespace causeway
