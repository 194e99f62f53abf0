#include "src/run/utc_text.hpp"

#include <fmt/chrono.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <ctime>

namespace causeway {

double seconds_since_1970() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

std::string utc_text(double seconds) {
  const auto milliseconds = static_cast<std::int64_t>(std::clamp(seconds, 0.0, 2e11) * 1e3);
  return fmt::format("{:%Y-%m-%dT%H:%M:%S}.{:03}Z", fmt::gmtime(static_cast<std::time_t>(milliseconds / 1000)),
                     milliseconds % 1000);
}

}  // namespace causeway
