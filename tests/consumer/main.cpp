#include <cstdio>

#include "parallel/layout/shard_layout.hpp"
#include "src/cli/command.hpp"

int main() {
  std::printf("%zu commands\n", causeway::commands().size());
  return causeway::commands().empty() ? 1 : 0;
}
