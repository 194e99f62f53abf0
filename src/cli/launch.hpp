#pragma once

#include <functional>
#include <string_view>

#include "kernels/core/error.hpp"
#include "parallel/transport/communicator.hpp"
#include "src/cli/config.hpp"

namespace causeway {

/// How the ranks of a run come to be.
struct LaunchOptions {
  std::string transport = "auto";  ///< "auto", "mpi" or "local"
  int ranks = 1;                   ///< threads of this process, for "local"
};
/// Whether the ranks are processes, which talk by MPI; else they are threads. Throws Error(usage).
bool uses_mpi(const LaunchOptions& options);
OptionGroup launch_group(LaunchOptions& options);

/// Whether mpirun or srun started this process as one of a group, by the variables they set; answers before MPI_Init.
bool started_by_launcher();
/// This process's rank in that group, 0 without one.
int launcher_rank();

/// Runs `body` on every rank and returns the exit code all agree on: the largest any returned. What ends a run early
/// ends it everywhere: an AgreedError is thrown on by every rank (main prints it on the first); any other error is one
/// rank's own, is printed here with rank and host, and takes the job down with its code. Unless OMP_NUM_THREADS is set,
/// each rank computes with its share of the cores it may use.
ExitCode launch(const LaunchOptions& options, const std::function<ExitCode(Communicator world)>& body);

/// For an error before launch(): lets the other processes of the group know, so that all end with its code, even if
/// theirs went well. Throws the error the group agreed on.
[[noreturn]] void fail_with_group(const Error& error);

/// The code and the line an exception of any type stands for.
Error error_of(const std::exception& exception);

}  // namespace causeway
