#include <vector>

#include "src/command.hpp"

namespace causeway {

// Each is defined by the file of its name under src/commands/.
Command op_command();
Command train_command();

std::span<const Command> commands() {
  static const std::vector<Command> table = {op_command(), train_command()};
  return table;
}

}  // namespace causeway
