#include "src/cli/command.hpp"
#include "src/cli/launch.hpp"
#include "src/cli/text_file.hpp"
#include "src/op/batch.hpp"
#include "src/op/run.hpp"
#include "src/op/table.hpp"

namespace causeway {
namespace {

struct Settings {
  OpRequest request;
  bool list = false;
  std::string batch;
  LaunchOptions launch;
};

/// What one case takes: the command's own options, and those of a line of a batch.
CommandLine declare_request(OpRequest& request) {
  return {
      .usage = "OPERATOR --in FILE --out FILE [options]",
      .description = "",
      .groups =
          {{"Files",
            {{.name = "operator",
              .field = &request.op,
              .value = "OPERATOR",
              .help = "which one; --list names them",
              .positional = true},
             {"in", &request.in, "FILE",
              "HDF5 file with the operator's inputs as datasets and its options as attributes of the root"},
             {"out", &request.out, "FILE",
              "HDF5 file to write; appears whole or not at all, replacing what is there"}}},
           {"How to run it",
            {{"strategy", &request.strategy, "NAME",
              "how ranks share the work; --list names them, auto takes the one thought fastest, --dry-run says why"},
             {"layout",
              &request.layout,
              "",
              "which tokens a rank holds: one chunk, or one from either end of the pack",
              {"contiguous", "zigzag"}},
             {"dtype",
              &request.dtype,
              "",
              "type of the activations; bf16 keeps states and decays in f32",
              {"f64", "f32", "bf16"}},
             {"device", &request.device, "", "where to compute", {"cpu", "cuda"}},
             {"schedule",
              &request.schedule,
              "",
              "how a state crosses ranks: from neighbour to neighbour, or all summaries to all ranks; same bits",
              {"auto", "chain", "gather"}},
             {"method", &request.method, "", "how a long filter is applied", {"auto", "direct", "fft", "modal"}},
             {"backward", &request.backward, "", "read d_y as well and write d_INPUT for every input"},
             {"dry-run", &request.dry_run, "", "check everything, say what would run, and stop"}}}},
      .examples = ""};
}

CommandLine declare(Settings& settings) {
  CommandLine line = declare_request(settings.request);
  line.usage = "OPERATOR --in FILE --out FILE [options] | --list | --batch LIST";
  line.description =
      "Runs one operator on tensors from a file, forward and backward, on any number of ranks under any strategy: the "
      "way to hold it against a "
      "reference of your own. The result is the same file whatever the rank count.\n\n"
      "The inputs are float64 or float32 datasets, those with a question mark optional; T counts tokens, and equal "
      "letters are equal sizes. What is "
      "set to a value is an attribute of the file's root. The dataset cu_seqlens (int64) cuts the tokens into "
      "documents.\n\nOperators:" +
      op_inputs_text();
  line.groups.push_back(
      {"Many cases, and none",
       {{"batch", &settings.batch, "LIST",
         "a file with a case a line, each what would follow 'causeway op'; prints LINE-NUMBER, EXIT and "
         "MESSAGE a line; a failed line stops nothing"},
        {"list", &settings.list, "",
         "print a line for every operator and strategy, with layouts, devices and variants, and stop"}}});
  line.groups.push_back(launch_group(settings.launch));
  line.examples =
      "mpirun -n 4 causeway op selective_scan --in case.h5 --out result.h5 --dtype f32 --backward\n"
      "causeway op causal_conv --in case.h5 --out result.h5 --ranks 3 --layout zigzag";
  return line;
}

OpRequest parse_line(std::string_view text) {
  OpRequest request;
  const auto answer = parse(declare_request(request), "op", split_words(text));
  require(!answer.has_value(), "--help and --print-config have no place in a batch");
  return request;
}

/// Exit code and message of one line of a batch, the same on every rank.
std::pair<ExitCode, std::string> run_line(std::string_view text, OpWorld& world) {
  try {
    OpRequest request;
    collectively(world.control(), [&] { request = parse_line(text); });
    return {ExitCode::ok, run_op(request, world)};
  } catch (const AgreedError& error) {  // every rank has it: on with the next line
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
    const std::string report = fmt::format("{}\t{}\t{}\n", ++number, static_cast<int>(code), on_one_line(message));
    collectively(world, [&] { print_answer(report, world.rank()); });
  }
}

ExitCode execute(const Settings& settings) {
  if (settings.list) {
    print_answer(op_list());
    return ExitCode::ok;
  }
  require(settings.batch.empty() || settings.request.op.empty(), "--batch takes no operator beside it: '{}'",
          settings.request.op);
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
