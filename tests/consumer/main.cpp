#include <cstdio>

#include "parallel/shard_layout.hpp"
#include "src/command.hpp"

int main() {
  std::printf("%zu commands\n", causeway::commands().size());
  return causeway::commands().empty() ? 1 : 0;
}
