#include "src/cli/exit_codes.hpp"

namespace causeway {

std::span<const ExitCodeRow> exit_codes() {
  static constexpr ExitCodeRow table[] = {
      {ExitCode::ok, "done", "done"},
      {ExitCode::internal, "internal", "a defect of Causeway, or a missing resource, such as memory"},
      {ExitCode::usage, "usage", "a wrong option or a bad input file"},
      {ExitCode::corrupt, "corrupt", "a checkpoint or dataset is damaged"},
      {ExitCode::non_finite, "non_finite", "the loss became infinite or NaN"},
      {ExitCode::io, "io", "reading or writing a file failed"},
      {ExitCode::requeue, "requeue", "stopped by a signal: start it again"},
      {ExitCode::watchdog, "watchdog", "no progress for too long"},
  };
  return table;
}

std::optional<ExitCodeRow> exit_code_row(std::int64_t code) {
  for (const ExitCodeRow& row : exit_codes())
    if (static_cast<std::int64_t>(row.code) == code) return row;
  return std::nullopt;
}

}  // namespace causeway
