#include <fmt/format.h>

#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>

#include "io/atomic_file.hpp"
#include "src/bench.hpp"
#include "src/command.hpp"
#include "src/cores.hpp"

namespace causeway {
namespace {

struct Topic {
  std::string_view name;
  std::string_view summary;
  void (*run)(const BenchSettings&, const std::function<void(const Measurement&)>& report);
};

constexpr Topic topics[] = {
    {"operators", "every operator of a Mamba, forward and backward, on one pack", bench_operators},
};

CommandLine declare(BenchSettings& settings) {
  std::vector<std::string> names;
  std::string summaries;
  for (const Topic& topic : topics) {
    names.emplace_back(topic.name);
    summaries += fmt::format("\n  {}: {}", topic.name, topic.summary);
  }
  return {.usage = "[TOPIC] [options]",
          .description = "Measures this machine: median milliseconds, GB/s over the bytes that have to travel at least once, and how that compares with a "
                         "memory copy measured first in the same run. A cache can take it above 100 %.\n\nTopics:" + summaries,
          .groups = {{"Measuring",
                      {{"topic", &settings.topic, "TOPIC", "what to measure", names, true},
                       {"filter", &settings.filter, "WORDS", "only what has this in its name: \"scan backward\""},
                       {"dtype", &settings.dtype, "", "type of activations and weights", {"f32", "f64", "bf16"}},
                       {"tokens", &settings.tokens, "N", "length of the pack, with --channels; 0: the built-in sizes"},
                       {"channels", &settings.channels, "N", "width"},
                       {"seconds", &settings.least_seconds, "S", "measure each at least this long"},
                       {"json", &settings.json, "FILE", "write the figures here too"}}}},
          .examples = "causeway bench operators\nOMP_NUM_THREADS=1 causeway bench operators --filter scan --json scan.json"};
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

ExitCode execute(const BenchSettings& settings) {
  compute_with(fair_threads(1));
  const Topic* topic = std::find_if(std::begin(topics), std::end(topics), [&](const Topic& each) { return each.name == settings.topic; });
  ensure(topic != std::end(topics), "bench has no topic '{}'", settings.topic);

  fmt::print("{:<24} {:>14} {:>9} {:>10} {:>8} {:>9} {:>9}\n", settings.dtype, "[tokens, D]", "documents", "ms", "GB/s", "of a copy", "GFLOP/s");
  const Measurement copy = measure_copy(Stream(), settings.least_seconds);
  const double copy_rate = copy.gigabytes_per_second();
  nlohmann::json rows = nlohmann::json::array();
  const auto report = [&](const Measurement& row) {
    print(row, copy_rate);
    rows.push_back(to_json(row, copy_rate));
  };
  report(copy);
  topic->run(settings, report);
  if (settings.json.empty()) return ExitCode::ok;

  AtomicFile file(settings.json);
  std::ofstream(file.temporary()) << nlohmann::json{{"topic", topic->name}, {"dtype", settings.dtype}, {"results", rows}}.dump(2) << '\n';
  file.commit();
  return ExitCode::ok;
}

}  // namespace

Command bench_command() { return make_command<BenchSettings, declare, execute>("bench", "measure this machine's operators"); }

}  // namespace causeway
