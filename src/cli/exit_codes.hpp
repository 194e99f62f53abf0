#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "kernels/core/error.hpp"

namespace causeway {

/// What a code says to who finds it: --help and the man page list the rows, exit.json and `causeway watch` use their
/// words.
struct ExitCodeRow {
  ExitCode code;
  std::string_view name;     ///< one word, for programs
  std::string_view meaning;  ///< for people
};
std::span<const ExitCodeRow> exit_codes();

/// The row of a code, which may be anything; nothing where the program has no such code.
std::optional<ExitCodeRow> exit_code_row(std::int64_t code);

}  // namespace causeway
