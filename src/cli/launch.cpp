#include "src/cli/launch.hpp"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <thread>
#include <vector>

#include "io/file/temporary_file.hpp"
#include "io/hdf5/hdf5.hpp"
#include "src/cli/cores.hpp"
#include "src/cli/log.hpp"
#include "src/output/standard_streams.hpp"

namespace causeway {
namespace {

int number_in(const char* variable, int otherwise) {
  const char* text = std::getenv(variable);
  return text == nullptr || *text == '\0' ? otherwise : std::atoi(text);
}

/// Ends the job because of an error of one rank. Others may have the same error, if they checked the same input: ranks
/// after the first wait a moment, so that usually one rank prints it and the job ends before the others do.
[[noreturn]] void fail_alone(const Error& error, Communicator& group) {
  std::this_thread::sleep_for(std::chrono::milliseconds(group.rank() == 0 ? 0 : 200 + 20 * std::min(group.rank(), 40)));
  const std::string who = group.size() > 1 ? fmt::format("rank {} ({}): ", group.rank(), host_name()) : "";
  if (*error.what() != '\0') write_error(who + error.what());
  remove_temporary_files();
  group.transport().abort(static_cast<int>(error.code()));
  std::_Exit(static_cast<int>(error.code()));
}

/// The first collective of all processes of a group: every process learns whether the check failed in any of them.
/// Returns a communicator for this and for other agreement.
Communicator check_together(Communicator& world, const std::function<void()>& check) {
  Communicator control = world.split(0, world.rank());  // so that the traffic of `world` is only that of the run
  collectively(control, check);
  return control;
}

/// Compares the command lines of all processes: with different options, ranks would wait for each other for ever, or
/// train with different settings.
void require_same_options(Communicator& control, const std::string& command_line) {
  std::istringstream mine(command_line), first(control.broadcast(command_line, 0));
  std::string my_line, first_line;
  while (my_line == first_line && (mine || first)) {
    if (!std::getline(mine, my_line)) my_line.clear();
    if (!std::getline(first, first_line)) first_line.clear();
  }
  collectively(control, [&] {
    require(my_line == first_line, "rank {} has '{}', rank 0 has '{}': every rank must be given the same options",
            control.rank(), my_line, first_line);
  });
}

/// How many processes the launcher started, as far as its variables tell; PMIx alone does not.
int launched_processes() {
  for (const char* variable : {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS"})
    if (std::getenv(variable) != nullptr) return number_in(variable, 1);
  return started_by_launcher() ? 2 : 1;
}

/// Whether a script started this process, not the launcher itself: then the parent has the launcher's variables too. A
/// script may start other programs after this one, and only one process for each rank can start MPI.
bool started_by_script() {
  std::string variable;
  for (const char* name : {"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK", "SLURM_PROCID"})
    if (variable.empty() && std::getenv(name) != nullptr) variable = fmt::format("{}=", name);
  std::ifstream environment(fmt::format("/proc/{}/environ", getppid()));  // another user's cannot be read: a launcher
  for (std::string row; std::getline(environment, row, '\0');)
    if (row.starts_with(variable)) return true;
  return false;
}

/// Whether the launcher itself started this process and others.
bool is_one_of_several() { return launched_processes() > 1 && !started_by_script(); }

/// For a process that needs no other: takes part in the comparison of command lines, and leaves MPI.
void compare_command_lines(const std::string& command_line) {
  if (!is_one_of_several()) return;
  {
    Communicator world(make_mpi_transport());
    Communicator control = check_together(world, [] {});
    require_same_options(control, command_line);
  }
  finish_mpi();
}

ExitCode launch_processes(const LaunchOptions& options, const std::function<ExitCode(Communicator)>& body) {
  Communicator world(make_mpi_transport());
  Communicator control = check_together(world, [&] {
    require(options.ranks == 1 || options.ranks == world.size(),
            "--ranks is {}, but {} processes were started; it counts the threads of --transport local", options.ranks,
            world.size());
  });
  require_same_options(control, options.command_line);
  try {
    compute_with(fair_threads(control));
    require_threads(1);
    const ExitCode code = body(std::move(world));
    return static_cast<ExitCode>(control.max(std::int64_t{static_cast<int>(code)}));
  } catch (const AgreedError&) {
    throw;
  } catch (const std::exception& exception) {
    fail_alone(error_of(exception), control);
  }
}

ExitCode launch_threads(const LaunchOptions& options, const std::function<ExitCode(Communicator)>& body) {
  require(options.ranks >= 1 && options.ranks <= most_local_ranks(),
          "--ranks is {}, expected 1 to {}: the ranks of --transport local are threads of this process, which has {} "
          "cores; start more ranks with mpirun",
          options.ranks, most_local_ranks(), fair_threads(1));
  require(options.ranks == 1 || hdf5::thread_safe(),
          "--ranks is {}, but this HDF5 library is not thread-safe: start processes with mpirun instead",
          options.ranks);
  compute_with(fair_threads(options.ranks));
  require_threads(options.ranks);
  std::vector<ExitCode> codes(static_cast<std::size_t>(options.ranks), ExitCode::ok);
  std::vector<std::string> failures(
      codes.size());  // the message of each rank's own error; run_local_ranks throws one of them
  try {
    run_local_ranks(options.ranks, [&](std::unique_ptr<Transport> transport) {
      const auto rank = static_cast<std::size_t>(transport->rank());
      compute_with(fair_threads(options.ranks));
      try {
        codes[rank] = body(Communicator(std::move(transport)));
      } catch (const AgreedError&) {
        throw;
      } catch (const PeerFailed&) {
        throw;
      } catch (const std::exception& exception) {
        failures[rank] = error_of(exception).what();
        throw;
      }
    });
  } catch (const AgreedError&) {
    throw;
  } catch (const PeerFailed& ended) {  // no rank failed: the watchdog ended the job and printed why
    throw AgreedError(ended.code(), ended.what());
  } catch (const std::exception& exception) {
    const Error error = error_of(exception);
    const auto rank = std::ranges::find(failures, error.what()) - failures.begin();
    throw AgreedError(error.code(),
                      options.ranks == 1
                          ? error.what()
                          : fmt::format("rank {}: {}", rank, error.what()));  // agreed, because all ranks have ended
  }
  return std::ranges::max(codes);
}

}  // namespace

bool uses_mpi(const LaunchOptions& options) {
  if (options.transport == "auto") return started_by_launcher();
  require(options.transport == "mpi" || options.transport == "local",
          "--transport is '{}', expected auto, mpi or local", options.transport);
  return options.transport == "mpi";
}

OptionGroup launch_group(LaunchOptions& options) {
  return {
      "Start of the ranks",
      {{"transport",
        &options.transport,
        "",
        "how ranks communicate: as processes of mpirun or srun (mpi), or as threads of this process (local); auto: mpi "
        "if one of these started the program",
        {"auto", "mpi", "local"}},
       {"ranks", &options.ranks, "N", "number of ranks of the local transport; with mpirun or srun give it there"}}};
}

bool started_by_launcher() {
  for (const char* variable : {"OMPI_COMM_WORLD_SIZE", "PMIX_RANK", "PMI_RANK", "PMI_SIZE"})
    if (std::getenv(variable) != nullptr) return true;
  // Only srun sets this; SLURM_NTASKS is also in the environment of the batch script.
  return number_in("SLURM_STEP_NUM_TASKS", 1) > 1;
}

int launcher_rank() {
  for (const char* variable : {"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK"})
    if (std::getenv(variable) != nullptr) return number_in(variable, 0);
  return started_by_launcher() ? number_in("SLURM_PROCID", 0) : 0;
}

ExitCode launch(const LaunchOptions& options, const std::function<ExitCode(Communicator)>& body) {
  if (uses_mpi(options)) return launch_processes(options, body);
  return run_alone(options.command_line, [&] {
    require(
        !is_one_of_several(),
        "--transport is local, but several processes were started, each of which would do all of the work; expected "
        "mpi, or one process");
    return launch_threads(options, body);
  });
}

ExitCode run_alone(const std::string& command_line, const std::function<ExitCode()>& body) {
  compare_command_lines(command_line);
  try {
    return body();
  } catch (const AgreedError&) {
    throw;
  } catch (const std::exception& exception) {
    const Error error = error_of(exception);
    throw AgreedError(error.code(), error.what());
  }
}

void fail_with_group(const Error& error) {
  if (started_by_launcher()) {
    Communicator world(make_mpi_transport());
    check_together(world, [&] { throw error; });
  }
  throw error;
}

}  // namespace causeway
