#include <vector>

#include "src/command.hpp"

namespace causeway {

// Each is defined by the file of its name under src/commands/.

std::span<const Command> commands() {
  static const std::vector<Command> table = {};
  return table;
}

}  // namespace causeway
