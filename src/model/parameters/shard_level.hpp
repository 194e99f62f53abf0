#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "kernels/core/error.hpp"

namespace causeway {

/// What a rank holds only its shard of (ZeRO, arXiv 1910.02054). Each level includes the ones before it.
enum class ShardLevel : std::uint8_t {
  optimizer,   ///< master weights and moments (ZeRO-1)
  gradients,   ///< also the gradients' sums: whole gradients exist of one block at a time (ZeRO-2)
  parameters,  ///< also the weights: whole weights exist of the block in use and of the next one (ZeRO-3)
};

constexpr std::array<std::string_view, 3> shard_level_names = {"optimizer", "gradients", "parameters"};
constexpr std::string_view name_of(ShardLevel level) { return shard_level_names[static_cast<std::size_t>(level)]; }

/// The inverse of name_of. Throws Error(usage) for any other name.
inline ShardLevel parse_shard_level(std::string_view name) {
  for (std::size_t i = 0; i < shard_level_names.size(); ++i)
    if (name == shard_level_names[i]) return static_cast<ShardLevel>(i);
  fail(ExitCode::usage, "shard is '{}', expected optimizer, gradients or parameters", name);
}

}  // namespace causeway
