/// A program in which only rank argv[1] fails, while the others wait for it. tests/src/test_cli.cpp runs it with
/// mpirun.

#include <cstdlib>

#include "src/cli/launch.hpp"

int main(int argc, char** argv) {
  const int failing = argc > 1 ? std::atoi(argv[1]) : 0;
  return static_cast<int>(causeway::launch({}, [&](causeway::Communicator world) {
    if (world.rank() == failing) causeway::fail(causeway::ExitCode::io, "disk is full");
    world.barrier();
    return causeway::ExitCode::ok;
  }));
}
