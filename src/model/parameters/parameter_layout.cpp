#include "src/model/parameters/parameter_layout.hpp"

#include "kernels/core/integer.hpp"

namespace causeway {

/// A shard is a multiple of 64 elements, so that every part begins where vector loads and matrix products are fast.
std::int64_t ParameterLayout::padded_elements(std::int64_t elements, std::int64_t shards) {
  constexpr std::int64_t aligned = 64;
  return shards == 1 ? elements : shards * round_up(ceil_div(elements, shards), aligned);
}

void ParameterLayout::place() {
  for (ParameterArena& arena : arenas) {
    arena.parts.resize(groups.size());
    std::int64_t begin = 0;
    for (ParameterArena::Part& part : arena.parts) {
      part.flat = {begin, begin + padded_elements(part.elements, shards)};
      begin = part.flat.end;
    }
  }
  for (Parameter& parameter : parameters) {
    const std::int64_t begin = arenas[parameter.arena].parts[parameter.group].flat.begin;
    parameter.flat = {begin + parameter.in_part.begin, begin + parameter.in_part.end};
  }
}

ShardPiece ParameterLayout::piece(std::size_t arena, std::size_t group) const {
  const Range whole = arenas[arena].parts[group].flat;
  const std::int64_t each = whole.size() / shards, begin = whole.begin + rank * each, first = whole.begin / shards;
  return {.arena = arena, .flat = {begin, begin + each}, .shard = {first, first + each}};
}

std::vector<ShardPiece> ParameterLayout::pieces() const {
  std::vector<ShardPiece> all;
  for (std::size_t arena = 0; arena < arenas.size(); ++arena) {
    const Range whole{0, arenas[arena].padded()};
    if (shards == 1) {
      all.push_back({.arena = arena, .flat = whole, .shard = whole});
      continue;
    }
    for (std::size_t group = 0; group < groups.size(); ++group)
      if (arenas[arena].parts[group].flat.size() > 0) all.push_back(piece(arena, group));
  }
  return all;
}

}  // namespace causeway
