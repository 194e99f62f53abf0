#pragma once

#include <string>

#include "tests/src/shell.hpp"

namespace causeway::test {

/// The Python that tests call: the environment variable CAUSEWAY_PYTHON, else python3.
std::string python();

/// Why a test that needs the Python modules (separated by blanks) is skipped; empty if Python has all of them.
std::string without_python(const std::string& modules, const std::string& interpreter = python());

/// The first of python() and Debian's /usr/bin/python3 that has the modules; without_python says why if none has.
std::string python_with(const std::string& modules);

/// Runs a script with arguments in `folder`, which gets a file for it.
Outcome run_python(const testing::TemporaryFolder& folder, const std::string& script, const std::string& arguments);

}  // namespace causeway::test
