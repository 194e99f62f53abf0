#include "src/log.hpp"

#include <unistd.h>

#include <array>
#include <cstdio>

namespace causeway {

std::string host_name() {
  std::array<char, 256> name{};
  return gethostname(name.data(), name.size() - 1) == 0 ? name.data() : "unknown host";
}

void Log::write(std::string_view line) { fmt::print(stderr, "{}\n", line); }

}  // namespace causeway
