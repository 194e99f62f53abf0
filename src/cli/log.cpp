#include "src/cli/log.hpp"

#include <unistd.h>

#include <array>
#include <cstdio>

namespace causeway {

std::string host_name() {
  std::array<char, 256> name{};
  return gethostname(name.data(), name.size() - 1) == 0 ? name.data() : "unknown host";
}

std::string one_line(std::string_view text) {
  constexpr std::size_t longest = 4000;
  std::string line;
  for (const char character : text.substr(0, longest)) {
    const auto byte = static_cast<unsigned char>(character);
    if (byte < 0x20 || byte == 0x7f)
      line += fmt::format("\\x{:02x}", byte);
    else
      line += character;
  }
  return text.size() > longest ? line + "…" : line;
}

void Log::write(std::string_view line) { fmt::print(stderr, "{}\n", line); }

}  // namespace causeway
