#pragma once

#include <string_view>

namespace causeway {

/// Prepares the process for whatever its standard streams are. main() calls it before anything opens a file.
/// - A standard descriptor that is closed is opened on /dev/null, so that no other file gets its number: messages would
///   be written into that file. It is opened the wrong way round (standard output for reading), so that reading or
///   writing it still fails.
/// - SIGPIPE and SIGXFSZ are ignored: writing to a pipe without a reader, or past the limit of a file's size, then
///   fails with EPIPE or EFBIG instead of ending the process.
void prepare_standard_streams() noexcept;

/// Writes to standard error. A log that cannot be written never ends a run or changes its exit code: failures are
/// ignored. Takes no lock, so it can also be called while another thread hangs.
void write_log(std::string_view text) noexcept;
/// The line "causeway: TEXT", with `text` as one_line() has it; nothing for an empty text.
void write_error(std::string_view text);

/// Writes the result of a command to standard output. Throws Error(io) with the system's reason where that fails. Where
/// the reader of a pipe has gone, the error has no text and nothing is printed: `causeway inspect … | head -1` needs no
/// more.
void write_result(std::string_view text);

}  // namespace causeway
