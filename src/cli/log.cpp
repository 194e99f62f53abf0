#include "src/cli/log.hpp"

#include <unistd.h>

#include <array>

#include "src/output/standard_streams.hpp"

namespace causeway {

std::string host_name() {
  std::array<char, 256> name{};
  return gethostname(name.data(), name.size() - 1) == 0 ? name.data() : "unknown host";
}

void Log::write(std::string_view line) { write_log(fmt::format("{}\n", line)); }

}  // namespace causeway
