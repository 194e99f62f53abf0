#pragma once

#include <string>

#include "tests/support/temporary_folder.hpp"

namespace causeway::test {

struct Outcome {
  int exit = -1;
  std::string out, err;
};

/// `command` with @causeway and @mpirun replaced by the paths of the program and of mpirun.
std::string expanded(std::string command);

/// `command` with system calls that fail or take long, by the rules of tests/preload/failing_calls.cpp.
std::string with_calls(const std::string& rules, const std::string& command);

/// Runs an expanded shell command in `folder`. After 100 seconds it is ended with code 124.
Outcome shell(const testing::TemporaryFolder& folder, const std::string& command);

}  // namespace causeway::test
