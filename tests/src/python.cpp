#include "tests/src/python.hpp"

#include <fmt/format.h>

#include <cstdlib>
#include <sstream>

namespace causeway::test {

std::string python() {
  const char* given = std::getenv("CAUSEWAY_PYTHON");
  return given == nullptr || *given == '\0' ? "python3" : given;
}

std::string without_python(const std::string& modules) {
  const testing::TemporaryFolder folder;
  std::istringstream words(modules);
  for (std::string module; words >> module;)
    if (shell(folder, fmt::format("'{}' -c 'import {}'", python(), module)).exit != 0)
      return fmt::format("{} has no module {}; CAUSEWAY_PYTHON names another Python", python(), module);
  return "";
}

Outcome run_python(const testing::TemporaryFolder& folder, const std::string& script, const std::string& arguments) {
  folder.write("script.py", script);
  return shell(folder, fmt::format("'{}' script.py {}", python(), arguments));
}

}  // namespace causeway::test
