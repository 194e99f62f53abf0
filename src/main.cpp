#include <fmt/format.h>

#include <string>
#include <vector>

#include "kernels/error.hpp"
#include "src/command.hpp"

int main(int argc, char** argv) {
  const std::vector<std::string> arguments(argv + 1, argv + argc);
  try {
    for (const causeway::Command& command : causeway::commands())
      if (!arguments.empty() && arguments.front() == command.name) return command.run(std::span(arguments).subspan(1));
  } catch (const causeway::Error& error) {
    fmt::print(stderr, "causeway: {}\n", error.what());
    return static_cast<int>(error.code());
  }
  return static_cast<int>(causeway::ExitCode::usage);
}
