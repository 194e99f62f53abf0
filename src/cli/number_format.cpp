#include "src/cli/number_format.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <string_view>

namespace causeway {

std::string shortened(double value) {
  constexpr std::string_view suffixes[] = {"", "k", "M", "G", "T"};
  std::size_t power = 0;
  while (value >= 999.5 && power + 1 < std::size(suffixes)) {
    value /= 1000;
    ++power;
  }
  return power == 0 && value == std::floor(value) ? fmt::format("{:.0f}", value)
                                                  : fmt::format("{:.3g}{}", value, suffixes[power]);
}

std::string grouped(std::int64_t value) {
  std::string text = std::to_string(value);
  for (auto position = static_cast<std::int64_t>(text.size()) - 3; position > (value < 0 ? 1 : 0); position -= 3)
    text.insert(static_cast<std::size_t>(position), 1, ',');
  return text;
}

std::string duration(double seconds) {
  const auto whole = static_cast<std::int64_t>(std::llround(std::clamp(seconds, 0.0, 1e9)));
  if (whole < 60) return fmt::format("{} s", whole);
  if (whole < 3600) return fmt::format("{} min {:02} s", whole / 60, whole % 60);
  if (whole < 172'800) return fmt::format("{} h {:02} min", whole / 3600, whole / 60 % 60);
  return fmt::format("{} d {:02} h", whole / 86'400, whole / 3600 % 24);
}

std::string short_time(double seconds) {
  if (seconds < 1e-3) return fmt::format("{:.3g} us", seconds * 1e6);
  if (seconds < 1) return fmt::format("{:.3g} ms", seconds * 1e3);
  return seconds < 100 ? fmt::format("{:.3g} s", seconds) : duration(seconds);
}

std::string binary_bytes(double bytes) {
  constexpr std::string_view units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
  std::size_t power = 0;
  while (bytes >= 1023.5 && power + 1 < std::size(units)) {
    bytes /= 1024;
    ++power;
  }
  return fmt::format("{:.{}f} {}", bytes, power == 0 || bytes >= 99.95 ? 0 : bytes >= 9.995 ? 1 : 2, units[power]);
}

}  // namespace causeway
