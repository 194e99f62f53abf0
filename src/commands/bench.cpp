#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "io/file/atomic_file.hpp"
#include "parallel/transport/device_transport.hpp"
#include "src/bench/auto_choice.hpp"
#include "src/bench/calibration.hpp"
#include "src/bench/checkpoint.hpp"
#include "src/bench/operators.hpp"
#include "src/bench/step/step_report.hpp"
#include "src/bench/strategies.hpp"
#include "src/cli/command.hpp"
#include "src/cli/cores.hpp"
#include "src/run/json_fields.hpp"
#include "src/runtime/rank_stream.hpp"
#include "src/runtime/strategy_choice.hpp"

namespace causeway {
namespace {

struct BenchSettings {
  std::string topic = "operators";
  std::string json, filter, profile;
  std::optional<std::int64_t> asked_tokens;
  std::int64_t channels = 0, megabytes = 256;
  std::string folder = ".";
  double least_seconds = 0.1;
  StepSettings step{.compute = {.dtype = "auto"}};  // all topics use its device and dtype
  LaunchOptions launch;

  std::int64_t tokens() const { return asked_tokens.value_or(0); }  ///< 0: built-in sizes
  Device compute_device() const { return parse_device(step.compute.device); }
  DType compute_dtype() const {
    const std::string& dtype = step.compute.dtype;
    return dtype == "auto" ? (compute_device() == Device::cuda ? DType::bf16 : DType::f32) : parse_dtype(dtype);
  }
};

void require_size(const BenchSettings& settings) {
  require(settings.tokens() >= 0 && settings.channels >= 0 && (settings.tokens() > 0) == (settings.channels > 0),
          "--tokens {} and --channels {}: expected both, and positive", settings.tokens(), settings.channels);
  const std::int64_t multiple =
      settings.channels > 1024 ? 128 : 16;  // heads have 128 channels; a filter is shared by 16
  require(settings.channels % multiple == 0, "--channels is {}, expected a multiple of {}", settings.channels,
          multiple);
  require(settings.least_seconds >= 0 && settings.least_seconds <= 3600, "--seconds is {}, expected 0 to 3600",
          settings.least_seconds);
  if (launcher_rank() == 0 && !settings.json.empty()) check_target(settings.json, Existing::replaced);
}

void require_rows(const BenchSettings& settings, const nlohmann::ordered_json& rows) {
  require(!rows.empty(), "--filter is '{}', which no row has; expected part of the name of a row", settings.filter);
}

void write_json(const BenchSettings& settings, const nlohmann::ordered_json& figures) {
  if (settings.json.empty()) return;
  nlohmann::ordered_json report{{"topic", settings.topic},
                                {"device", settings.step.compute.device},
                                {"dtype", name_of(settings.compute_dtype())}};
  report.update(figures);
  write_text(settings.json, json_document(report));
}

ExitCode run_operators(const BenchSettings& settings) {
  require_size(settings);
  return run_alone(settings.launch.command_line, [&] {
    compute_with(fair_threads(1));
    const Stopwatch stopwatch(Stream(settings.compute_device()), settings.least_seconds);
    const Ceilings ceilings = measure_ceilings(stopwatch, settings.compute_dtype());
    print_answer(text_of(ceilings, settings.compute_device(), settings.compute_dtype()), 0);
    print_answer(columns_of_operators(settings.compute_dtype()), 0);
    nlohmann::ordered_json rows = nlohmann::ordered_json::array();
    ExitCode worst = ExitCode::ok;
    bench_operators({.dtype = settings.compute_dtype(),
                     .filter = settings.filter,
                     .tokens = settings.tokens(),
                     .channels = settings.channels},
                    stopwatch, ceilings, [&](const Measurement& row) {
                      print_answer(text_of(row), 0);
                      rows.push_back(to_json(row));
                      if (row.code != ExitCode::usage) worst = std::max(worst, row.code);
                    });
    require_rows(settings, rows);
    write_json(settings, {{"ceilings", to_json(ceilings)}, {"results", std::move(rows)}});
    return worst;
  });
}

ExitCode run_strategies(const BenchSettings& settings) {
  require_size(settings);
  return launch(settings.launch, [&](Communicator world) {
    const Stream stream = make_rank_stream(settings.compute_device(), world);
    Communicator ranks(make_device_transport(world.transport(), stream));
    const auto print = [first = world.rank() == 0](const std::string& line) {
      if (first) print_answer(line, 0);
    };
    StrategyBench measured = bench_strategies({.dtype = settings.compute_dtype(),
                                               .filter = settings.filter,
                                               .tokens = settings.tokens(),
                                               .channels = settings.channels,
                                               .least_seconds = settings.least_seconds},
                                              world, ranks, stream, print);
    require_rows(settings, measured.rows);
    print(fmt::format("\n{}\n{}\n", text_of(measured.choices), machine_text(measured.machine, world.size())));
    collectively(world, [&] {
      if (world.rank() == 0)
        write_json(settings, {{"results", std::move(measured.rows)},
                              {"auto", to_json(measured.choices)},
                              {"machine", to_json(measured.machine)}});
    });
    return ExitCode::ok;
  });
}

ExitCode run_checkpoint(const BenchSettings& settings) {
  constexpr std::int64_t most = std::int64_t{1} << 30;
  require(settings.megabytes >= 1 && settings.megabytes <= most, "--megabytes is {}, expected 1 to {}",
          settings.megabytes, most);
  return launch(settings.launch, [&](Communicator world) {
    const Stream stream = make_rank_stream(settings.compute_device(), world);
    const CheckpointMeasurement found =
        measure_checkpoint(settings.folder, settings.megabytes * 1'000'000, world, stream);
    if (world.rank() == 0) print_answer(text_of(found, world.size(), settings.compute_device()), 0);
    collectively(world, [&] {
      if (world.rank() == 0) write_json(settings, to_json(found, world.size()));
    });
    return ExitCode::ok;
  });
}

ExitCode run_step(const BenchSettings& settings) {
  StepSettings step = settings.step;
  step.compute.dtype = name_of(settings.compute_dtype());
  step.tokens = settings.asked_tokens.value_or(step.tokens);
  check(step);
  return launch(settings.launch, [&](Communicator world) {
    // measure_step() takes the communicator; this one is for the end.
    Communicator ranks = world.split(0, world.rank());
    collectively(ranks, [&] {
      if (ranks.rank() == 0 && !settings.json.empty()) check_target(settings.json, Existing::replaced);
    });
    const StepMeasurement measured = measure_step(step, std::move(world));
    collectively(ranks, [&] {
      if (ranks.rank() != 0) return;
      print_answer(step_text(step, measured), 0);
      write_json(settings, step_json(step, measured));
    });
    return ExitCode::ok;
  });
}

ExitCode run_profile(const BenchSettings& settings) {
  require(!settings.profile.empty(), "--profile is missing: expected the file to write");
  CalibrationSettings measured{.shape = resolve(settings.step.model, preset_options(default_preset)),
                               .tokens = settings.asked_tokens.value_or(StepSettings{}.tokens),
                               .device = settings.compute_device(),
                               .dtype = settings.compute_dtype(),
                               .name = settings.profile};
  check(measured);
  return launch(settings.launch, [&](Communicator world) {
    collectively(world, [&] {
      if (world.rank() == 0) check_target(settings.profile, Existing::replaced);
    });
    const Profile profile = measure_profile(measured, world, make_rank_stream(measured.device, world));
    collectively(world, [&] {
      if (world.rank() != 0) return;
      write_text(settings.profile, json_text(profile));
      print_answer(profile_text(profile), 0);
    });
    return ExitCode::ok;
  });
}

struct Topic {
  std::string_view name;
  std::string_view summary;
  ExitCode (*run)(const BenchSettings&);
};

constexpr Topic topics[] = {
    {"operators",
     "every operator, forward and backward, on one document and on a pack of documents of 57 to 2048 tokens, in this "
     "process only",
     run_operators},
    {"strategies",
     "every operator with every strategy, over ranks: milliseconds of each pass, the estimate of --strategy auto for "
     "both, the milliseconds of communication that computation waits for (exposed) and does not wait for (hidden), "
     "bytes and messages, each of the rank with the most; then what --strategy auto takes beside the fastest, and the "
     "rates that it measured",
     run_strategies},
    {"checkpoint",
     "a checkpoint of --megabytes of training state, over ranks, written below --folder: how long training waits for "
     "the copy, and GB/s until the checkpoint is published, of checking it and of reading it",
     run_checkpoint},
    {"step",
     "a training step of any model, over ranks, on random tokens and without a run directory: forward and backward "
     "pass, head, loss and optimizer, by the code that train runs. Prints the median time, tokens per second (without "
     "padding and unused places), MFU on a GPU, peak memory, and the time of each part: every operator forward and "
     "backward, matrix products (gemm), exchanges between ranks, the optimizer, and on a GPU its waiting for the host",
     run_step},
    {"profile",
     "what causeway plan needs to know of this machine, over ranks: links, copies, the kernels and products of the "
     "model on a pack of --tokens, memory; written to the file --profile",
     run_profile},
};

OptionGroup step_group(StepSettings& settings) {
  OptionGroup group{
      "Topic step",
      {{"lengths", &settings.lengths, "packed|one|FILE",
        "the documents of a pack. packed: documents of 57 to 2048 tokens, one: a single one, which both fill it; "
        "FILE: documents with the lengths that this file has, one a line, repeated and packed by --policy. A file "
        "called packed or one is ./packed"},
       accumulate_option(settings.accumulate),
       {"steps", &settings.steps, "N",
        "steps to measure, after some that are not counted; default: as many as take 2 s, 5 to 25"},
       {"one-at-a-time", &settings.one_at_a_time, "",
        "also compute the same documents one a pass, with one update a step, and print how many times as fast "
        "packed is"},
       {"padded", &settings.padded, "",
        "also compute the same documents padded to the longest, as many a pass as fit into --tokens, and print how "
        "many times as fast packed is"}}};
  insert_after(group, "lengths", packing_options(settings.policy, settings.window));
  insert_after(group, "padded", memory_options(settings.memory));
  return group;
}

CommandLine declare(BenchSettings& settings) {
  OptionGroup model = model_group(settings.step.model), compute = compute_group(settings.step.compute);
  model.title = "Model of topics step and profile";
  Option& dtype = find_option(compute, "dtype");
  dtype.help = "type of activations and weights; auto: bf16 on a GPU, f32 on the CPU";
  dtype.choices.insert(dtype.choices.begin(), "auto");
  std::vector<std::string> names;
  std::string summaries;
  for (const Topic& topic : topics) {
    names.emplace_back(topic.name);
    summaries += fmt::format("\n  {}: {}", topic.name, topic.summary);
  }
  return {
      .usage = "[TOPIC] [options]",
      .description = fmt::format(
          "Measures this machine; TOPIC says what is measured.\n\n"
          "The topic operators first prints the ceilings: the rates that the device reaches when it only copies, only "
          "multiplies matrices, or only computes exponentials. Then it prints for each operator the median of its "
          "milliseconds, GB/s over the bytes that must be read or written at least once, and the fraction of its "
          "ceiling (the one under which it would take longest). Caches are emptied before every run. On a GPU the "
          "sizes are those of a large model; on the CPU tokens are divided by {} and channels by {}.\n\nTopics:{}",
          cpu_token_divisor, cpu_channel_divisor, summaries),
      .groups =
          {{"Measurement",
            {{"topic", &settings.topic, "TOPIC", "what to measure", names, true},
             {"filter", &settings.filter, "TEXT[,TEXT…]",
              "only rows with this text, or one of several, in their names: \"scan backward,gemm\""},
             {.name = "tokens",
              .field = &settings.asked_tokens,
              .value = "N",
              .help = "tokens of the pack; of operators and strategies together with --channels",
              .shown_default = fmt::format("built-in sizes; of step {}", StepSettings{}.tokens),
              .also = "pack-tokens",
              .binary_units = true},
             {.name = "channels",
              .field = &settings.channels,
              .value = "N",
              .help = "channels, together with --tokens",
              .shown_default = "built-in sizes"},
             {"megabytes", &settings.megabytes, "N", "size of the checkpoint, all ranks together"},
             {"profile", &settings.profile, "FILE",
              "where topic profile writes the profile, for causeway plan --profile"},
             {"folder", &settings.folder, "DIRECTORY", "where the checkpoint is written and removed again"},
             {"seconds", &settings.least_seconds, "S", "measure each row for at least this long"},
             {"json", &settings.json, "FILE",
              "also write the figures to this file; causeway export makes a table of it, scripts/plot a picture"}}},
           step_group(settings.step),
           std::move(model),
           std::move(compute),
           launch_group(settings.launch)},
      .examples =
          "causeway bench operators\ncauseway bench operators --device cuda --filter scan --json scan.json\nmpirun "
          "-n 4 causeway bench strategies\nmpirun -n 4 causeway bench checkpoint --folder /scratch --megabytes 4000\n"
          "causeway bench step --model mamba-130m --tokens 8K --device cuda --one-at-a-time --padded\n"
          "causeway bench step --layers mamba --layers-count 8 --width 2048 --tokens 16K --lengths lengths.txt\n"
          "mpirun -n 2 causeway bench profile --model sh2-tiny --tokens 8K --profile here.json"};
}

ExitCode execute(const BenchSettings& settings) {
  const Topic* topic = std::find_if(std::begin(topics), std::end(topics),
                                    [&](const Topic& each) { return each.name == settings.topic; });
  ensure(topic != std::end(topics), "bench has no topic '{}'", settings.topic);
  return topic->run(settings);
}

}  // namespace

Command bench_command() {
  return make_command<BenchSettings, declare, execute>(
      "bench", "measure operators, strategies, training steps and checkpoints here");
}

}  // namespace causeway
