#include "src/train/run_directory.hpp"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <filesystem>
#include <string_view>
#include <vector>

#include "io/file/atomic_file.hpp"
#include "io/file/look_up.hpp"
#include "parallel/transport/device_transport.hpp"
#include "src/cli/launch.hpp"
#include "src/cli/log.hpp"
#include "src/cli/version.hpp"
#include "src/run/attempts.hpp"
#include "src/run/json_fields.hpp"
#include "src/run/natural_order.hpp"
#include "src/run/resume_command.hpp"
#include "src/run/utc_text.hpp"

namespace causeway {
namespace {

constexpr std::string_view readme = R"(This is the directory of a run of "causeway train".

  config.ini        every option with the value used; its first lines show the command that resumes the run
  environment.json  of the last attempt: how the program was built, what is trained, the ranks, their mesh and hosts,
                    the transport, and the environment variables that configure MPI, NCCL, Slurm and threads
  metrics.jsonl     a line for each step: loss, learning rate, tokens a second; seconds of computing, of waiting for
                    communication and of communication during computing; bytes sent, memory, held-out losses,
                    checkpoints
  events.out.…      with --tensorboard: the same figures for TensorBoard, a file for each attempt
  ranks.txt         a line for each rank: its step, phase and layer; rewritten in place while the run is active
  lock              locked while a training uses this directory, so that no second one starts in it
  attempts.jsonl    a line when an attempt starts and one when it ends; a start without an end: the attempt is active
                    or was killed
  exit.json         how the last attempt ended; missing while it is active and after it was killed
  step-N/           the checkpoint after step N, in HDF5; complete as soon as it has this name
  latest            a link to the newest checkpoint

Commands for it, RUN being this directory:

  causeway watch RUN                       shows it live in a terminal; --once prints one frame
  causeway inspect RUN                     attempts, losses and the latest checkpoint; --verify reads every value
  causeway export RUN --out steps.tsv      a table of metrics.jsonl; or steps.csv
  tensorboard --logdir RUN                 the curves, with --tensorboard; of a folder of runs: of all of them
  h5ls -r RUN/latest/index.h5              the checkpoint's tensors, as any HDF5 program shows them
  causeway train --config RUN/config.ini --resume auto      resumes from the latest checkpoint
)";

std::string path_in(const std::string& run, const char* name) { return (std::filesystem::path(run) / name).string(); }

std::string resume_comment(const std::string& run, int ranks, bool processes) {
  return fmt::format("# Every option of this run. To resume it from its latest checkpoint:\n#     {}\n",
                     resume_command(run, ranks, processes));
}

std::string variable(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

}  // namespace

nlohmann::ordered_json describe_environment(const TrainSettings& settings, const Model& model, Runtime& runtime) {
  Communicator& world = runtime.mesh.world;
  nlohmann::ordered_json environment;
  for (const BuildFact& fact : build_facts()) environment["build"][std::string(fact.name)] = fact.value;

  const ModelOptions& shape = model.options().shape;
  environment["run"] = {{"model", settings.model.model.empty() ? layers_text(shape.layers) : settings.model.model},
                        {"layers", layers_text(shape.layers)},
                        {"width", shape.width},
                        {"parameters", model.parameters().count()},
                        {"dtype", name_of(model.options().dtype)},
                        {"device", settings.compute.device},
                        {"steps", settings.steps},
                        {"pack_tokens", settings.pack_tokens},
                        {"accumulate", settings.accumulate}};
  const bool processes = uses_mpi(settings.launch);
  environment["mesh"] = {{"ranks", world.size()},
                         {"data", runtime.mesh.data_size},
                         {"context", runtime.mesh.context.size()},
                         {"layout", settings.compute.layout},
                         {"transport", processes ? "MPI" : "threads"},
                         {"device_memory", device_transfer_method(world.transport(), runtime.stream, !processes)}};

  using HostName = std::array<char, 256>;
  HostName mine{};
  host_name().copy(mine.data(), mine.size() - 1);
  std::vector<HostName> hosts(static_cast<std::size_t>(world.size()));
  world.all_gather(std::as_bytes(std::span(mine)), std::as_writable_bytes(std::span(hosts)), Stream());
  for (const HostName& host : hosts) environment["hosts"].push_back(std::string(host.data()));

  auto& variables = environment["variables"] = nlohmann::ordered_json::object();
  std::vector<std::string> kept;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string_view line = *entry;
    for (const std::string_view prefix :
         {"OMPI_MCA_", "UCX_", "NCCL_", "SLURM_", "OMP_", "OPENBLAS_", "CUDA_VISIBLE_DEVICES", "FI_"})
      if (line.starts_with(prefix)) kept.emplace_back(line);
  }
  std::sort(kept.begin(), kept.end());
  for (const std::string& line : kept) variables[line.substr(0, line.find('='))] = line.substr(line.find('=') + 1);
  return environment;
}

std::string run_of_config(const IniOrigin& origin, const std::string& run) {
  namespace fs = std::filesystem;
  const fs::path file = origin.file;
  const fs::path folder = file.has_parent_path() ? file.parent_path() : ".";
  const bool of_a_run = file.filename() == "config.ini" && is_there(folder / "environment.json");
  if (!of_a_run || std::ranges::find(origin.options, "run") == origin.options.end()) return run;
  if (!is_there(run)) return folder.string();
  std::error_code failed;
  require(fs::equivalent(folder, run, failed) || failed,
          "{}: was copied with its run directory and still names the first one, {}; expected --run {} or --run {}",
          origin.file, run, folder.string(), run);
  return run;
}

void write_start(const std::string& run, const RunStart& start) {
  const auto& mesh = start.environment.at("mesh");
  const auto ranks = mesh.at("ranks").get<std::int64_t>();
  write_text(path_in(run, "README.txt"), std::string(readme));
  write_text(path_in(run, "config.ini"),
             resume_comment(run, static_cast<int>(ranks), mesh.at("transport") == "MPI") + start.config);
  write_text(path_in(run, "environment.json"), json_document(start.environment));
  auto hosts = start.environment.at("hosts").get<std::vector<std::string>>();
  std::ranges::sort(hosts, NaturalLess());
  hosts.erase(std::unique(hosts.begin(), hosts.end()), hosts.end());
  append_start(run, {.started = seconds_since_1970(),
                     .resumed_step = start.resumed_step,
                     .ranks = ranks,
                     .data = mesh.at("data").get<std::int64_t>(),
                     .context = mesh.at("context").get<std::int64_t>(),
                     .hosts = std::move(hosts),
                     .revision = start.environment.at("build").at("revision").get<std::string>(),
                     .slurm_job_id = variable("SLURM_JOB_ID"),
                     .slurm_restart_count = variable("SLURM_RESTART_COUNT")});
}

}  // namespace causeway
