#pragma once

#include <fmt/ranges.h>

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/core/error.hpp"

namespace causeway {

/// "; did you mean 'x'?" where a known word is close to what was typed, else "". `dashes` are shown before the word.
std::string did_you_mean(std::string_view typed, std::span<const std::string> known, std::string_view dashes = "");

/// A hint for an unknown option (typed without dashes): what other programs call so and a command with the options
/// `known` calls differently, else did_you_mean().
std::string option_hint(std::string_view typed, std::span<const std::string> known, std::string_view dashes);
/// The same for an unknown command.
std::string command_hint(std::string_view typed, std::span<const std::string> known);

/// The row of a table that has this `name`. Throws Error(usage) where none has: "<what> '<name>', expected one of: …",
/// with the names in `also` first and a suggestion last.
template <class Rows>
const auto& find_named(const Rows& rows, std::string_view what, std::string_view name,
                       std::vector<std::string> also = {}) {
  for (const auto& row : rows) {
    if (row.name == name) return row;
    also.emplace_back(row.name);
  }
  fail(ExitCode::usage, "{} '{}', expected one of: {}{}", what, name, fmt::join(also, ", "), did_you_mean(name, also));
}

}  // namespace causeway
