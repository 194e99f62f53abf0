#include "tests/src/python.hpp"

#include <fmt/format.h>

#include <cstdlib>
#include <map>
#include <sstream>

namespace causeway::test {

std::string python() {
  const char* given = std::getenv("CAUSEWAY_PYTHON");
  return given == nullptr || *given == '\0' ? "python3" : given;
}

std::string without_python(const std::string& modules, const std::string& interpreter) {
  const testing::TemporaryFolder folder;
  std::istringstream words(modules);
  for (std::string module; words >> module;)
    if (shell(folder, fmt::format("'{}' -c 'import {}'", interpreter, module)).exit != 0)
      return fmt::format("{} has no module {}; CAUSEWAY_PYTHON names another Python", interpreter, module);
  return "";
}

std::string python_with(const std::string& modules) {
  static std::map<std::string, std::string> found;  // starting an interpreter takes a part of a second
  const auto [entry, first] = found.try_emplace(modules, python());
  const std::string debian = "/usr/bin/python3";
  if (first && !without_python(modules).empty() && without_python(modules, debian).empty()) entry->second = debian;
  return entry->second;
}

Outcome run_python(const testing::TemporaryFolder& folder, const std::string& script, const std::string& arguments) {
  folder.write("script.py", script);
  return shell(folder, fmt::format("'{}' script.py {}", python(), arguments));
}

}  // namespace causeway::test
