#include "tests/src/shell.hpp"

#include <fmt/format.h>
#include <sys/wait.h>

#include <cstdlib>

namespace causeway::test {

std::string expanded(std::string command) {
  const auto replace = [&](const std::string& word, const std::string& by) {
    for (std::size_t at = 0; (at = command.find(word, at)) != std::string::npos; at += by.size())
      command.replace(at, word.size(), by);
  };
  replace("@mpirun", CAUSEWAY_TEST_MPIRUN);
  replace("@causeway", CAUSEWAY_TEST_BINARY);
  return command;
}

std::string with_calls(const std::string& rules, const std::string& command) {
  return fmt::format("env LD_PRELOAD='{}' CAUSEWAY_TEST_CALLS='{}' {}", CAUSEWAY_TEST_FAILING_CALLS, rules, command);
}

Outcome shell(const testing::TemporaryFolder& folder, const std::string& command) {
  const char* environment =
      "OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1 "
      "OMPI_MCA_mpi_yield_when_idle=1 "
      "OMPI_MCA_hwloc_base_binding_policy=none OMPI_MCA_btl_vader_single_copy_mechanism=none "
      "OMPI_MCA_btl_vader_eager_limit=32768 OMP_NUM_THREADS=1";
  const std::string out = folder / "stdout", err = folder / "stderr";
  const int status = std::system(fmt::format("cd '{}' && env {} timeout 100 {} >'{}' 2>'{}' </dev/null", folder / "",
                                             environment, expanded(command), out, err)
                                     .c_str());
  return {WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status), testing::bytes_of(out),
          testing::bytes_of(err)};
}

}  // namespace causeway::test
