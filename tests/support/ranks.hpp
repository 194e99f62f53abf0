#pragma once

#include <functional>
#include <vector>

#include "parallel/transport/communicator.hpp"

/// Tests with several ranks. The same suite runs in two ways:
///   test_parallel                         every rank a thread of this process (Local transport)
///   mpirun -n 7 test_parallel --mpi       every rank a process; a test with n ranks uses the first n of them
/// On a machine with a GPU, tests with a Device parameter run on it too: threads share one, processes take one each.
/// A test's body must not ASSERT between two collectives: the other ranks would wait forever. Communicate, then
/// compare.
namespace causeway::test {

/// The rank counts every strategy is tested on: powers of two, primes, one.
inline constexpr int rank_counts[] = {1, 2, 3, 4, 5, 7};

/// Runs `body` on `ranks` ranks, each with its own communicator. A failed EXPECT on any rank fails the test. An
/// exception on any rank fails it too; under MPI it ends the job, since the other ranks cannot be informed. Skips the
/// test if mpirun started fewer ranks.
void on_ranks(int ranks, const std::function<void(Communicator& world)>& body);

/// The devices to test on: the CPU, and a GPU if one is visible.
std::vector<Device> devices();
/// The end of a test's name for this device.
inline std::string suffix_of(Device device) { return device == Device::cpu ? "" : "_cuda"; }

/// The same with ranks that compute on `device`, each on its own stream. Processes communicate as
/// make_device_transport() decides: over NCCL if each has its own GPU.
void on_ranks(int ranks, Device device, const std::function<void(Communicator& world, const Stream& stream)>& body);

/// Whether mpirun started this process, with --mpi.
bool under_mpi();

/// The main function of a test executable: initialises GoogleTest, and MPI if the arguments contain --mpi. Under MPI
/// rank 0 prints, other ranks print only their failures, and all ranks return 1 if a test failed on any of them.
int run_all_tests(int argc, char** argv);

}  // namespace causeway::test
