#include <fmt/format.h>
#include <unistd.h>

#include <cstdlib>
#include <string>
#include <vector>

#include "io/file/temporary_file.hpp"
#include "kernels/core/blas_core.hpp"
#include "kernels/core/threads.hpp"
#include "src/cli/launch.hpp"
#include "src/cli/program.hpp"
#include "src/output/safe_text.hpp"
#include "src/output/standard_streams.hpp"

namespace {

int report(const causeway::Error& error) {
  if (causeway::launcher_rank() == 0) causeway::write_error(error.what());
  return static_cast<int>(error.code());
}

/// Sets a variable that a library reads when the process starts, if it has another value. Returns whether it did.
bool set_variable(const char* name, const std::string& value) {
  const char* const before = std::getenv(name);
  if (value.empty() || (before != nullptr && value == before)) return false;
  return setenv(name, value.c_str(), 1) == 0;
}

/// Starts the program again, once, if OpenBLAS has chosen kernels for an older CPU than this one, or OMP_NUM_THREADS is
/// absurd: both libraries read the environment only when a process starts.
void restart_with_better_environment(char** argv) {
  const char* const asked = std::getenv("OMP_NUM_THREADS");
  const auto threads = causeway::bounded_threads(asked == nullptr ? "" : asked);
  if (threads && causeway::launcher_rank() == 0)
    causeway::write_log(fmt::format("warning: OMP_NUM_THREADS is {}; computing with {} threads\n",
                                    causeway::one_line(asked, 40), *threads));
  const bool bounded = set_variable("OMP_NUM_THREADS", threads ? fmt::to_string(*threads) : "");
  const bool chosen = set_variable("OPENBLAS_CORETYPE", std::string(causeway::better_blas_core()));
  if (!bounded && !chosen) return;
  execv("/proc/self/exe", argv);
  // Only if that fails: the program is slower, but correct.
  if (threads) causeway::set_threads(*threads);
}

}  // namespace

int main(int argc, char** argv) {
  causeway::prepare_standard_streams();
  restart_with_better_environment(argv);
  causeway::remove_temporary_files_at_signals();
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
