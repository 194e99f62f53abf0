#include <fmt/format.h>

#include <cstdio>
#include <string>
#include <vector>

#include "src/launch.hpp"
#include "src/program.hpp"

namespace {

int report(const causeway::Error& error) {
  if (causeway::launcher_rank() == 0) fmt::print(stderr, "causeway: {}\n", error.what());
  return static_cast<int>(error.code());
}

}  // namespace

int main(int argc, char** argv) {
  const std::vector<std::string> arguments(argv + (argc > 0 ? 1 : 0), argv + argc);
  try {
    try {
      return static_cast<int>(causeway::run_program(arguments));
    } catch (const causeway::AgreedError&) {
      throw;
    } catch (const std::exception& exception) {
      causeway::fail_with_group(causeway::error_of(exception));
    }
  } catch (const causeway::Error& error) {
    return report(error);
  }
}
