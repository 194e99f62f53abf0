#include <vector>

#include "src/cli/command.hpp"

namespace causeway {

// Each is defined in the file of its name in src/commands/.
Command bench_command();
Command convert_command();
Command export_command();
Command generate_command();
Command import_command();
Command inspect_command();
Command op_command();
Command pack_command();
Command plan_command();
Command score_command();
Command simulate_command();
Command split_command();
Command train_command();
Command watch_command();

std::span<const Command> commands() {
  static const std::vector<Command> table = {import_command(),  split_command(),   pack_command(),  convert_command(),
                                             train_command(),   watch_command(),   score_command(), generate_command(),
                                             inspect_command(), export_command(),  op_command(),    bench_command(),
                                             plan_command(),    simulate_command()};
  return table;
}

}  // namespace causeway
