#pragma once

#include <functional>
#include <vector>

#include "parallel/transport/communicator.hpp"

/// Tests with several ranks. One suite, run twice:
///   test_parallel                         every rank a thread of this process (Local transport)
///   mpirun -n 7 test_parallel --mpi       every rank a process; a test that wants n ranks gets the first n of them
/// Where a GPU answers, tests that take a Device run on it too: threads share one, processes take one each.
/// A test's body must not ASSERT between two collectives: the peers would wait for ever. Communicate, then compare.
namespace causeway::test {

/// The rank counts every strategy is tested on: powers of two, primes, one.
inline constexpr int rank_counts[] = {1, 2, 3, 4, 5, 7};

/// Runs `body` on `ranks` ranks, each with a communicator of its own. A failed EXPECT on any rank fails the test; an
/// exception on any rank fails it too (under MPI it ends the job, since the peers cannot be reached). Skips the test
/// where mpirun started fewer ranks.
void on_ranks(int ranks, const std::function<void(Communicator& world)>& body);

/// The devices there are to test on: the CPU, and a GPU where one answers.
std::vector<Device> devices();
/// How GoogleTest names what runs on it.
inline std::string suffix_of(Device device) { return device == Device::cpu ? "" : "_cuda"; }

/// The same with ranks that compute on `device`, each on its stream. Processes talk as make_device_transport says: over
/// NCCL if each has a GPU of its own.
void on_ranks(int ranks, Device device, const std::function<void(Communicator& world, const Stream& stream)>& body);

/// Whether this process is one of several that mpirun started, with --mpi.
bool under_mpi();

/// As main of a test executable: initialises GoogleTest, and MPI where the arguments say --mpi. Under MPI rank 0
/// prints; other ranks print only what fails there, and all ranks return 1 if a test failed on any of them.
int run_all_tests(int argc, char** argv);

}  // namespace causeway::test
