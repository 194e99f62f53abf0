#pragma once

#include <string>

#include "tests/support/temporary_folder.hpp"

namespace causeway::test {

struct Outcome {
  int exit = -1;
  std::string out, err;
};

/// `command` with @causeway and @mpirun replaced by the built binary and the MPI it was built with.
std::string expanded(std::string command);

/// Runs an expanded shell command in `folder`. A hang ends with 124.
Outcome shell(const testing::TemporaryFolder& folder, const std::string& command);

}  // namespace causeway::test
