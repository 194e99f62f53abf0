#include <unistd.h>

#include <cstdlib>
#include <string>
#include <vector>

#include "io/file/temporary_file.hpp"
#include "kernels/core/blas_core.hpp"
#include "src/cli/launch.hpp"
#include "src/cli/program.hpp"
#include "src/output/standard_streams.hpp"

namespace {

int report(const causeway::Error& error) {
  if (causeway::launcher_rank() == 0) causeway::write_error(error.what());
  return static_cast<int>(error.code());
}

/// Starts the program again, once, if OpenBLAS has chosen kernels for an older CPU than this one: it chooses only when
/// a process starts.
void restart_with_better_blas(char** argv) {
  const std::string core(causeway::better_blas_core());
  if (core.empty() || setenv("OPENBLAS_CORETYPE", core.c_str(), 0) != 0) return;
  execv("/proc/self/exe", argv);  // returns only if it fails: then the program is slower, but correct
}

}  // namespace

int main(int argc, char** argv) {
  causeway::prepare_standard_streams();
  restart_with_better_blas(argv);
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
