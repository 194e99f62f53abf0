#pragma once

#include <functional>
#include <string_view>

#include "kernels/core/error_of.hpp"
#include "parallel/transport/communicator.hpp"
#include "src/cli/config.hpp"

namespace causeway {

/// How the ranks of a run are started.
struct LaunchOptions {
  std::string transport = "auto";  ///< "auto", "mpi" or "local"
  int ranks = 1;                   ///< threads of this process, for "local"
  /// The command and its options, one a line, which processes must have in common.
  std::string command_line = {};
};
/// Whether the ranks are processes, which communicate through MPI; otherwise they are threads. Throws Error(usage).
bool uses_mpi(const LaunchOptions& options);
OptionGroup launch_group(LaunchOptions& options);

/// Whether mpirun or srun started this process as one of a group. It reads the variables that they set, so it can be
/// called before MPI_Init.
bool started_by_launcher();
/// The rank of this process in that group; 0 if there is none.
int launcher_rank();

/// Runs `body` on every rank and returns the largest exit code of all ranks, on every rank. An AgreedError is rethrown
/// on every rank (main prints it on the first); so is the Error(usage) of processes that got different options. Any
/// other error belongs to one rank: it is printed here with rank and host, and ends the job with its code. Unless
/// OMP_NUM_THREADS is set, each rank computes with its share of the cores that it may use.
ExitCode launch(const LaunchOptions& options, const std::function<ExitCode(Communicator world)>& body);

/// Runs a body that communicates with no other process, even if a launcher started several: before it, those that the
/// launcher itself started compare their command lines, as those of launch() do, because a rank of another command
/// would wait for this one for ever. The errors of the body become AgreedErrors: no rank waits to be informed.
ExitCode run_alone(const std::string& command_line, const std::function<ExitCode()>& body);

/// For an error before launch(): informs the other processes of the group, so that all end with its code, even those
/// that had no error. Throws the error that the group agrees on.
[[noreturn]] void fail_with_group(const Error& error);

}  // namespace causeway
