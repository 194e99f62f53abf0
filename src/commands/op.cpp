#include <set>

#include "src/cli/command.hpp"
#include "src/cli/launch.hpp"
#include "src/cli/text_file.hpp"
#include "src/op/batch.hpp"
#include "src/op/run.hpp"
#include "src/op/table.hpp"
#include "src/output/safe_text.hpp"

namespace causeway {
namespace {

struct Settings {
  OpRequest request;
  bool list = false;
  std::string batch;
  LaunchOptions launch;
};

std::vector<std::string> operator_names() {
  std::vector<std::string> names;
  for (const OpRow& row : op_rows()) names.emplace_back(row.name);
  return names;
}

std::vector<std::string> strategy_names() {
  std::set<std::string> names = {"auto"};
  for (const OpRow& row : op_rows())
    for (const OpStrategy& strategy : row.strategies) names.emplace(strategy.name);
  return {names.begin(), names.end()};
}

/// The options of one case: of the command itself, and of every line of a batch.
CommandLine declare_request(OpRequest& request) {
  return {
      .usage = "OPERATOR --in FILE --out FILE [options]",
      .description = "",
      .groups =
          {{"Files",
            {{.name = "operator",
              .field = &request.op,
              .value = "OPERATOR",
              .help = "the operator; --list prints all",
              .positional = true,
              .suggestions = operator_names()},
             {"in", &request.in, "FILE",
              "HDF5 file with the inputs of the operator as datasets, and its options as attributes of the root group"},
             {"out", &request.out, "FILE",
              "HDF5 file to write; it appears complete or not at all, and replaces an existing file"}}},
           {"Computation",
            {{.name = "strategy",
              .field = &request.strategy,
              .value = "NAME",
              .help = "how the ranks share the work; --list prints all; auto: the strategy with the lowest estimated "
                      "time, --dry-run prints the estimates",
              .suggestions = strategy_names()},
             {"layout",
              &request.layout,
              "",
              "which tokens a rank has: one chunk, or one from each half of the pack",
              {"contiguous", "zigzag"}},
             {"dtype",
              &request.dtype,
              "",
              "type of the activations; with bf16, states and decay rates are f32",
              {"f64", "f32", "bf16"}},
             {"device", &request.device, "", "where to compute", {"cpu", "cuda"}},
             {"schedule",
              &request.schedule,
              "",
              "how a state crosses ranks: summaries from neighbour to neighbour, or all to all ranks, with the same "
              "bits; or in a relay, in which each rank scans after its neighbour",
              {"auto", "chain", "gather", "relay"}},
             {"method", &request.method, "", "how a long filter is applied", {"auto", "direct", "fft", "modal"}},
             {"keep-spectra",
              &request.keep_spectra,
              "",
              "of long_conv and --method fft with --backward on a GPU: forward keeps its spectra, with the same bits; "
              "auto: if they take at most an eighth of the free memory",
              {"auto", "never", "always"}},
             {"backward", &request.backward, "", "also read d_y and write d_INPUT for every input"},
             {"dry-run", &request.dry_run, "", "check everything, print what would run, and stop"}}}},
      .examples = ""};
}

CommandLine declare(Settings& settings) {
  CommandLine line = declare_request(settings.request);
  line.usage = "OPERATOR --in FILE --out FILE [options] | --list | --batch FILE";
  line.description =
      "Runs one operator on tensors from a file, forward and backward, on any number of ranks, with any strategy: for "
      "comparison with a reference of your own.\n\n"
      "On any number of ranks the result file has the same datasets, whole, with the same shapes and types. Their "
      "values agree within rounding, because another number of ranks adds in another order; on CPUs, y of causal_conv, "
      "hyena_se, hyena_mr and hyena_block with taps has the same bits. Run again with the same ranks, strategy, "
      "schedule and method, every value has the same bits. The attributes of the file say how it was made, and differ: "
      "ranks, strategy, seconds, bytes sent, memory.\n\n"
      "The inputs are datasets of float64 or float32; those with a question mark are optional. Other datasets and "
      "attributes are ignored, and a line on standard error names them. T is the number of "
      "tokens; axes with the same letter have the same size. A name with '=' is an attribute of the root group. The "
      "dataset cu_seqlens (int64) divides the tokens into documents; without it they are one document.\n\nOperators:" +
      op_inputs_text();
  line.groups.push_back(
      {"Batch and list",
       {{"batch", &settings.batch, "FILE",
         "a file with one case per line, each as it would follow 'causeway op'; prints LINE-NUMBER, EXIT and MESSAGE "
         "for each line; a line that fails does not stop the others"},
        {"list", &settings.list, "",
         "print a line for every operator and strategy, with its layouts, devices and variants, and stop"}}});
  line.groups.push_back(launch_group(settings.launch));
  line.examples =
      "mpirun -n 4 causeway op selective_scan --in case.h5 --out result.h5 --dtype f32 --backward\n"
      "causeway op causal_conv --in case.h5 --out result.h5 --ranks 3 --layout zigzag";
  return line;
}

OpRequest parse_line(std::string_view text) {
  OpRequest request;
  const auto answer = parse(declare_request(request), "op", split_words(text));
  require(!answer.has_value(), "--help and --print-config are not allowed in a batch");
  return request;
}

/// The exit code and the message of one line of a batch, the same on every rank.
std::pair<ExitCode, std::string> run_line(std::string_view text, OpWorld& world) {
  try {
    OpRequest request;
    collectively(world.control(), [&] { request = parse_line(text); });
    return {ExitCode::ok, run_op(request, world)};
  } catch (const AgreedError& error) {  // every rank has the same error, so all continue with the next line
    return {error.code(), error.what()};
  }
}

void run_batch(const std::string& path, Communicator& world) {
  std::string text;
  collectively(world, [&] {
    if (world.rank() == 0) text = read_text(path, "--batch", std::size_t{256} << 20);
  });
  text = world.broadcast(std::move(text), 0);
  std::int64_t number = 0;
  OpWorld cases(world);
  for (const std::string_view line : split_lines(text)) {
    const auto [code, message] = run_line(line, cases);
    const std::string report = fmt::format("{}\t{}\t{}\n", ++number, static_cast<int>(code), one_line(message));
    collectively(world, [&] { print_answer(report, world.rank()); });
  }
}

ExitCode execute(const Settings& settings) {
  if (settings.list) {
    return run_alone(settings.launch.command_line, [] {
      print_answer(op_list());
      return ExitCode::ok;
    });
  }
  require(settings.batch.empty() || settings.request.op.empty(),
          "--batch cannot be combined with an operator, found '{}'", settings.request.op);
  return launch(settings.launch, [&](Communicator world) {
    if (!settings.batch.empty()) {
      run_batch(settings.batch, world);
    } else {
      OpWorld one(world);
      const std::string done = run_op(settings.request, one);
      if (settings.request.dry_run) print_answer(done + '\n', world.rank());
    }
    return ExitCode::ok;
  });
}

}  // namespace

Command op_command() {
  return make_command<Settings, declare, execute>("op", "run one operator on tensors from a file");
}

}  // namespace causeway
