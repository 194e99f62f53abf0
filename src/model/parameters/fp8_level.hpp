#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "kernels/core/error.hpp"

namespace causeway {

/// Which dense products of the blocks have operands that are rounded to 8-bit floats. Each level includes the ones
/// before it. Embedding, head, norms, scans, filters and attention never have.
enum class Fp8Level : std::uint8_t {
  off,
  projections,  ///< the mixers' input projections, as Evo 2's 1B, 20B and 40B models were trained (arXiv 2503.01868)
  all,          ///< all of them
};

constexpr std::array<std::string_view, 3> fp8_level_names = {"off", "projections", "all"};
constexpr std::string_view name_of(Fp8Level level) { return fp8_level_names[static_cast<std::size_t>(level)]; }

/// The inverse of name_of. Throws Error(usage) for any other name.
inline Fp8Level parse_fp8_level(std::string_view name) {
  for (std::size_t i = 0; i < fp8_level_names.size(); ++i)
    if (name == fp8_level_names[i]) return static_cast<Fp8Level>(i);
  fail(ExitCode::usage, "fp8 is '{}', expected off, projections or all", name);
}

}  // namespace causeway
