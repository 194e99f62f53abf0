#include <fmt/format.h>

#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>

#include "io/file/atomic_file.hpp"
#include "parallel/transport/device_transport.hpp"
#include "src/bench/checkpoint.hpp"
#include "src/bench/operators.hpp"
#include "src/bench/strategies.hpp"
#include "src/cli/command.hpp"
#include "src/cli/cores.hpp"
#include "src/runtime/rank_stream.hpp"

namespace causeway {
namespace {

struct BenchSettings {
  std::string topic = "operators";
  std::string json, filter;
  std::string device = "cpu", dtype = "auto";
  std::int64_t tokens = 0, channels = 0, megabytes = 256;
  std::string folder = ".";
  double least_seconds = 0.1;
  LaunchOptions launch;

  Device where() const { return parse_device(device); }
  DType type() const {
    return dtype == "auto" ? (where() == Device::cuda ? DType::bf16 : DType::f32) : parse_dtype(dtype);
  }
};

struct Topic {
  std::string_view name;
  std::string_view summary;
  ExitCode (*run)(const BenchSettings&);
};

ExitCode run_operators(const BenchSettings& settings);
ExitCode run_strategies(const BenchSettings& settings);
ExitCode run_checkpoint(const BenchSettings& settings);

constexpr Topic topics[] = {
    {"operators",
     "every operator, forward and backward, on one document and on a pack of documents of 57 to 2048 tokens, on this "
     "process alone",
     run_operators},
    {"strategies",
     "every operator under every strategy, over ranks: milliseconds, the seconds of communication that the computation "
     "waits for (exposed) and does not (hidden), bytes and messages, each the largest rank's",
     run_strategies},
    {"checkpoint",
     "a checkpoint of --megabytes of training's state, over ranks, written below --folder: how long training waits for "
     "its copy, GB/s until it is announced, and of checking and reading it",
     run_checkpoint},
};

CommandLine declare(BenchSettings& settings) {
  std::vector<std::string> names;
  std::string summaries;
  for (const Topic& topic : topics) {
    names.emplace_back(topic.name);
    summaries += fmt::format("\n  {}: {}", topic.name, topic.summary);
  }
  return {
      .usage = "[TOPIC] [options]",
      .description = fmt::format("Measures this machine. operators: first what the device reaches at nothing but "
                                 "copying, multiplying matrices and taking exponentials; then, for each "
                                 "operator, median milliseconds, GB/s over the bytes that have to travel at least "
                                 "once, and how much of the ceiling that binds it (the "
                                 "one under which it would take longest) that is. Caches are emptied before every "
                                 "run. The sizes are a large model's on a GPU; on the CPU "
                                 "tokens are divided by {} and channels by {}.\n\nTopics:{}",
                                 cpu_token_divisor, cpu_channel_divisor, summaries),
      .groups = {{"Measuring",
                  {{"topic", &settings.topic, "TOPIC", "what to measure", names, true},
                   {"filter", &settings.filter, "WORDS", "only what has this in its name: \"scan backward\""},
                   {"device", &settings.device, "", "where to compute", {"cpu", "cuda"}},
                   {"dtype",
                    &settings.dtype,
                    "",
                    "type of activations and weights; auto: bf16 on a GPU, f32 on the CPU",
                    {"auto", "f32", "f64", "bf16"}},
                   {"tokens", &settings.tokens, "N", "length of the pack, with --channels; 0: the built-in sizes"},
                   {"channels", &settings.channels, "N", "width"},
                   {"megabytes", &settings.megabytes, "N", "of checkpoint's state, over all ranks"},
                   {"folder", &settings.folder, "FOLDER", "where checkpoint writes, and removes what it wrote"},
                   {"seconds", &settings.least_seconds, "S", "measure each at least this long"},
                   {"json", &settings.json, "FILE", "write the figures here too"}}},
                 launch_group(settings.launch)},
      .examples =
          "causeway bench operators\ncauseway bench operators --device cuda --filter scan --json scan.json\nmpirun "
          "-n 4 causeway bench strategies\nmpirun -n 4 causeway bench checkpoint --folder /scratch --megabytes 4000"};
}

void require_size(const BenchSettings& settings) {
  require(settings.tokens >= 0 && settings.channels >= 0 && (settings.tokens > 0) == (settings.channels > 0),
          "--tokens {} and --channels {}: expected both, and positive", settings.tokens, settings.channels);
  const std::int64_t multiple = settings.channels > 1024 ? 128 : 16;  // heads of 128, and filters for 16 channels each
  require(settings.channels % multiple == 0, "--channels is {}, expected a multiple of {}", settings.channels,
          multiple);
}

void write_json(const BenchSettings& settings, nlohmann::json report) {
  if (settings.json.empty()) return;
  report["topic"] = settings.topic;
  report["device"] = settings.device;
  report["dtype"] = name_of(settings.type());
  AtomicFile file(settings.json);
  std::ofstream(file.temporary()) << report.dump(2) << '\n';
  file.commit();
}

void print(const Measurement& row) {
  const std::string documents = row.documents > 0 ? fmt::to_string(row.documents) : "";
  if (row.failure.empty())
    fmt::print("{:<24} {:>22} {:>9} {:>10.3f} {:>8.1f} {:>9} {:>6.1f} % {}\n", row.name, row.shape, documents,
               row.seconds * 1e3, row.bytes_per_second() / 1e9,
               row.flops > 0 ? fmt::format("{:.0f}", row.flops / row.seconds / 1e9) : "", 100 * row.part_of_ceiling(),
               row.floor.binds);
  else
    fmt::print("{:<24} {:>22} {:>9} not measured: {}\n", row.name, row.shape, documents, row.failure);
  std::fflush(stdout);
}

nlohmann::json to_json(const Measurement& row) {
  nlohmann::json entry{{"name", row.name}, {"shape", row.shape}, {"documents", row.documents}};
  if (!row.failure.empty()) {
    entry["failure"] = row.failure;
    return entry;
  }
  entry.update({{"milliseconds", row.seconds * 1e3},
                {"bytes", row.bytes},
                {"flops", row.flops},
                {"exponentials", row.exponentials},
                {"gigabytes_per_second", row.bytes_per_second() / 1e9},
                {"floor_milliseconds", row.floor.seconds * 1e3},
                {"part_of_ceiling", row.part_of_ceiling()},
                {"ceiling", row.floor.binds}});
  return entry;
}

ExitCode run_operators(const BenchSettings& settings) {
  require_size(settings);
  return run_alone([&] {
    compute_with(fair_threads(1));
    const Stopwatch stopwatch(Stream(settings.where()), settings.least_seconds);
    const Ceilings ceilings = measure_ceilings(stopwatch, settings.type());
    fmt::print("ceilings on {}: copy {:.1f} GB/s (read + write), gemm {:.1f} GFLOP/s in {}, exp2 {:.2f} G/s\n",
               settings.device, ceilings.bytes_per_second / 1e9, ceilings.flops_per_second / 1e9,
               name_of(settings.type()), ceilings.exponentials_per_second / 1e9);
    fmt::print("{:<24} {:>22} {:>9} {:>10} {:>8} {:>9} {:>8} {}\n", name_of(settings.type()), "shape", "documents",
               "ms", "GB/s", "GFLOP/s", "of", "ceiling");
    nlohmann::json rows = nlohmann::json::array();
    ExitCode worst = ExitCode::ok;
    bench_operators(
        {.dtype = settings.type(), .filter = settings.filter, .tokens = settings.tokens, .channels = settings.channels},
        stopwatch, ceilings, [&](const Measurement& row) {
          print(row);
          rows.push_back(to_json(row));
          if (row.code != ExitCode::usage) worst = std::max(worst, row.code);
        });
    write_json(settings, {{"ceilings",
                           {{"gigabytes_per_second", ceilings.bytes_per_second / 1e9},
                            {"gigaflops", ceilings.flops_per_second / 1e9},
                            {"giga_exponentials_per_second", ceilings.exponentials_per_second / 1e9}}},
                          {"results", std::move(rows)}});
    return worst;
  });
}

/// One line, and one entry of the JSON.
nlohmann::json report_strategy(const StrategyWorkload& work, const StrategyMeasurement& measured, bool speaks) {
  const std::string name =
      fmt::format("{} {}{}{}", work.row.name, work.strategy.name, work.variant.empty() ? "" : " ", work.variant);
  if (speaks) {
    fmt::print("{:<46} {:>8} {:>9} {:>10.2f} {:>11.2f} {:>10.2f} {:>9.2f} {:>12} {:>8}\n", name, work.tokens,
               work.documents, measured.forward_s * 1e3, measured.backward_s * 1e3, measured.exposed_s * 1e3,
               measured.hidden_s * 1e3, measured.bytes_sent, measured.messages_sent);
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

/// What the strategies are measured on unless told otherwise: a pack as one document, and as documents as long as
/// PackMamba's mean.
struct StrategySizes {
  std::int64_t channels;
  std::vector<std::int64_t> tokens;
  std::int64_t longest_quadratic;  ///< tokens of a document that every token of is looked at by every other
};

StrategySizes strategy_sizes(Device device) {
  if (device == Device::cuda) return {.channels = 4096, .tokens = {16384, 65536}, .longest_quadratic = 65536};
  return {.channels = 64, .tokens = {4096, 16384}, .longest_quadratic = 8192};
}

ExitCode run_strategies(const BenchSettings& settings) {
  constexpr std::int64_t document = 646, most_taps_one_by_one = 8192;
  require_size(settings);
  StrategySizes sizes = strategy_sizes(settings.where());
  if (settings.tokens > 0) sizes = {settings.channels, {settings.tokens}, sizes.longest_quadratic};
  return launch(settings.launch, [&](Communicator world) {
    const Stream stream = make_rank_stream(settings.where(), world);
    Communicator ranks(make_device_transport(world.transport(), stream));
    const bool speaks = world.rank() == 0;
    if (speaks)
      fmt::print("{:<46} {:>8} {:>9} {:>10} {:>11} {:>10} {:>9} {:>12} {:>8}\n",
                 fmt::format("{} {}, {} ranks, {} channels", settings.device, name_of(settings.type()), world.size(),
                             sizes.channels),
                 "tokens", "documents", "forward ms", "backward ms", "exposed ms", "hidden ms", "bytes sent",
                 "messages");
    nlohmann::json rows = nlohmann::json::array();
    const auto measure = [&](StrategyWorkload work) {
      for (const std::int64_t tokens : sizes.tokens)
        for (const std::int64_t documents : std::set{std::int64_t{1}, std::max<std::int64_t>(tokens / document, 1)}) {
          if (work.row.name == "attention" && tokens / documents > sizes.longest_quadratic) continue;
          if (work.variant == "--method direct" && tokens / documents > most_taps_one_by_one) continue;
          work.tokens = tokens;
          work.documents = documents;
          rows.push_back(
              report_strategy(work, measure_strategy(work, world, ranks, stream, 3, settings.least_seconds), speaks));
        }
    };
    for (const OpRow& row : op_rows())
      for (const OpStrategy& strategy : row.strategies) {
        if (fmt::format("{} {}", row.name, strategy.name).find(settings.filter) == std::string::npos) continue;
        for (const std::string& variant : strategy.variants.empty() ? std::vector<std::string>{""} : strategy.variants)
          measure({.row = row,
                   .strategy = strategy,
                   .variant = variant,
                   .dtype = settings.type(),
                   .channels = sizes.channels});
      }
    collectively(world, [&] {
      if (speaks) write_json(settings, {{"results", std::move(rows)}});
    });
    return ExitCode::ok;
  });
}

ExitCode run_checkpoint(const BenchSettings& settings) {
  constexpr std::int64_t most = std::int64_t{1} << 30;
  require(settings.megabytes >= 1 && settings.megabytes <= most, "--megabytes is {}, expected 1 to {}",
          settings.megabytes, most);
  return launch(settings.launch, [&](Communicator world) {
    const Stream stream = make_rank_stream(settings.where(), world);
    const CheckpointMeasurement found =
        measure_checkpoint(settings.folder, settings.megabytes * 1'000'000, world, stream);
    const auto rate = [&](double seconds) { return static_cast<double>(found.bytes) / seconds / 1e9; };
    if (world.rank() == 0)
      fmt::print(
          "{} ranks, {}: {:.1f} MB of files, {:.1f} MB of memory a rank\n"
          "training waits  {:>9.1f} ms, the first time {:.1f} ms\n"
          "announced after {:>9.1f} ms, {:.2f} GB/s\n"
          "checked in      {:>9.1f} ms, {:.2f} GB/s\n"
          "read in         {:>9.1f} ms, {:.2f} GB/s\n",
          world.size(), settings.device, static_cast<double>(found.bytes) / 1e6,
          static_cast<double>(found.host_bytes) / 1e6, found.copy_s * 1e3, found.first_copy_s * 1e3,
          found.published_s * 1e3, rate(found.published_s), found.checked_s * 1e3, rate(found.checked_s),
          found.read_s * 1e3, rate(found.read_s));
    collectively(world, [&] {
      if (world.rank() == 0)
        write_json(settings, {{"ranks", world.size()},
                              {"bytes", found.bytes},
                              {"copy_s", found.copy_s},
                              {"first_copy_s", found.first_copy_s},
                              {"published_s", found.published_s},
                              {"checked_s", found.checked_s},
                              {"read_s", found.read_s},
                              {"host_bytes", found.host_bytes}});
    });
    return ExitCode::ok;
  });
}

ExitCode execute(const BenchSettings& settings) {
  const Topic* topic = std::find_if(std::begin(topics), std::end(topics),
                                    [&](const Topic& each) { return each.name == settings.topic; });
  ensure(topic != std::end(topics), "bench has no topic '{}'", settings.topic);
  return topic->run(settings);
}

}  // namespace

Command bench_command() {
  return make_command<BenchSettings, declare, execute>("bench", "measure this machine's operators and disks");
}

}  // namespace causeway
