#include <fmt/format.h>

#include <filesystem>
#include <limits>

#include "io/checkpoint/checkpoint_folders.hpp"
#include "io/checkpoint/manifest.hpp"
#include "io/file/look_up.hpp"
#include "src/cli/command.hpp"
#include "src/cli/launch.hpp"
#include "src/inspect/checkpoint_report.hpp"
#include "src/inspect/dataset_report.hpp"
#include "src/inspect/run_summary.hpp"
#include "src/inspect/score_report.hpp"
#include "src/output/safe_text.hpp"
#include "src/run/utc_text.hpp"
#include "src/watch/run_list.hpp"

namespace causeway {
namespace {

struct InspectSettings {
  std::vector<std::string> paths;
  bool verify = false;
};

CommandLine declare(InspectSettings& settings) {
  return {.usage = "FILE|DIRECTORY… [--verify]",
          .description =
              "Prints a summary of what it is given:\n"
              "  dataset         its documents, their lengths and the most frequent tokens\n"
              "  scores          their mean, the best and the worst documents, and what else the file contains\n"
              "  checkpoint      its step, its loss and every tensor\n"
              "  run             its attempts, its losses, how it ended, and its latest checkpoint; with --verify one "
              "line for each checkpoint\n"
              "  folder of runs  one line for each run",
          .groups = {{"Input",
                      {{"paths",
                        &settings.paths,
                        "FILE|DIRECTORY",
                        "a dataset, a file of scores, a checkpoint (step-N), a run, or a folder of runs",
                        {},
                        true},
                       {"verify", &settings.verify, "",
                        "read everything and check every checksum and value; exit code 65 if something is damaged"}}}},
          .examples = "causeway inspect train.h5\ncauseway inspect runs/first --verify\ncauseway inspect runs"};
}

std::string describe_file(const std::string& path, bool verify) {
  if (kind_of(path) == std::filesystem::file_type::regular && hdf5::is_hdf5(path) &&
      is_score_file(hdf5::File::open(path, hdf5::Access::read)))
    return describe_scores(path, verify);
  return describe_dataset(path, verify);
}

/// Describes a checkpoint; or a run and its latest checkpoint, with `verify` one line for each of its checkpoints.
void print_folder(const std::string& path, bool verify) {
  const std::filesystem::path folder = path;
  for (const char* file : {"metrics.jsonl", "attempts.jsonl", "environment.json", "exit.json"})
    require_readable_if_there((std::filesystem::path(path) / file).string());
  const bool checkpoints = !published_steps(path).empty(), run = is_run(path);
  if (run) print_answer(run_summary(path));
  if (run && !checkpoints) return;
  if (!verify || !checkpoints) {
    const CheckpointDescription found = describe_checkpoint(path, verify);
    print_answer(found.text);
    if (found.refused) throw Error(*found.refused);
    return;
  }
  const RunVerification report = verify_run(path);
  print_answer(report.text);
  if (report.damaged > 0)
    fail(ExitCode::corrupt, "{}: {} of {} checkpoints damaged", path, report.damaged, report.checkpoints);
  if (report.not_read) throw Error(*report.not_read);
}

/// Whether a folder has the files of a checkpoint, or the name of one whose files are missing.
bool is_checkpoint(const std::string& path) {
  const std::filesystem::path folder = path;
  std::error_code ignored;
  for (const char* file : {"index.h5", manifest_name})
    if (std::filesystem::exists(folder / file, ignored)) return true;
  return step_of_folder((folder.has_filename() ? folder : folder.parent_path()).filename().string()).has_value();
}

/// Lists the runs in a folder; with `verify` also verifies each of them.
void print_runs(const std::string& path, bool verify) {
  const std::vector<std::string> names = require_runs_in(path);
  constexpr double most_reading_s = 60;
  const Look look{.width = 200, .height = std::numeric_limits<int>::max(), .colour = false, .unicode = true};
  for (const std::string& line :
       build_run_list(path, RunListReader(path).poll(most_reading_s), seconds_since_1970(), look))
    print_answer(line + "\n");
  std::size_t damaged = 0;
  for (const std::string& name : verify ? names : std::vector<std::string>()) {
    try {
      print_folder((std::filesystem::path(path) / name).string(), true);
    } catch (const Error& error) {
      if (error.code() != ExitCode::corrupt) throw;
      print_answer(fmt::format("  DAMAGED: {}\n", one_line(error.what())));
      ++damaged;
    }
  }
  if (damaged > 0) fail(ExitCode::corrupt, "{}: {} of {} runs are damaged", path, damaged, names.size());
}

ExitCode execute(const InspectSettings& settings) {
  if (launcher_rank() != 0) return ExitCode::ok;
  require(!settings.paths.empty(),
          "--paths is missing: expected a dataset, a file of scores, a checkpoint, a run or a folder of runs");
  for (const std::string& path : settings.paths) {
    const auto kind = kind_of(path);
    require(kind != std::filesystem::file_type::not_found, "{}: {}", path, why_missing(path, "file or folder"));
    if (kind == std::filesystem::file_type::directory) require_readable_folder(path);
    if (kind != std::filesystem::file_type::directory)
      print_answer(describe_file(path, settings.verify));
    else if (is_run(path) || is_checkpoint(path))
      print_folder(path, settings.verify);
    else
      print_runs(path, settings.verify);
  }
  return ExitCode::ok;
}

}  // namespace

Command inspect_command() {
  return make_command<InspectSettings, declare, execute>("inspect",
                                                         "print a summary of a dataset, scores, a checkpoint or a run");
}

}  // namespace causeway
