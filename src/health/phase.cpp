#include "src/health/phase.hpp"

#include <algorithm>
#include <array>

namespace causeway {
namespace {

constexpr std::array<std::string_view, 11> names = {"start",    "restore",   "data",     "forward",
                                                    "backward", "optimizer", "evaluate", "checkpoint",
                                                    "write",    "done",      "watchdog"};

}  // namespace

std::string_view name_of(Phase phase) { return names[static_cast<std::size_t>(phase)]; }

std::optional<Phase> phase_named(std::string_view name) {
  const auto found = std::ranges::find(names, name);
  if (found == names.end()) return std::nullopt;
  return static_cast<Phase>(found - names.begin());
}

}  // namespace causeway
