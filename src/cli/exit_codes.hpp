#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "kernels/core/error.hpp"

namespace causeway {

/// The name and the meaning of an exit code: --help and the man page list the rows; exit.json and `causeway watch` use
/// them too.
struct ExitCodeRow {
  ExitCode code;
  std::string_view name;     ///< one word, for programs
  std::string_view meaning;  ///< for people
};
std::span<const ExitCodeRow> exit_codes();

/// The row of any code; nothing if the program has no such code.
std::optional<ExitCodeRow> exit_code_row(std::int64_t code);

}  // namespace causeway
