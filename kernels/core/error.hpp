#pragma once

#include <fmt/format.h>

#include <stdexcept>
#include <string>

namespace causeway {

/// The exit code of a process; all ranks of a run exit with the same one. 65, 70, 74 and 75 follow BSD's sysexits.h.
enum class ExitCode : int {
  ok = 0,
  internal = 1,     ///< a defect of Causeway, or a resource (memory, GPU) that the system refused
  usage = 2,        ///< a wrong option or a bad input file
  corrupt = 65,     ///< a checkpoint or dataset whose bytes are damaged
  non_finite = 70,  ///< the loss became infinite or NaN
  io = 74,          ///< reading or writing a file failed
  requeue = 75,     ///< a checkpoint was written after a signal: start the run again
  watchdog = 76,    ///< the watchdog found no progress for too long
};

/// The exception that Causeway throws. Its text says what was found, what was expected and where. main() prints it once
/// and exits with its code.
class Error : public std::runtime_error {
 public:
  Error(ExitCode code, const std::string& what) : std::runtime_error(what), code_(code) {}
  ExitCode code() const noexcept { return code_; }

 private:
  ExitCode code_;
};

/// An Error that every rank of the run throws at the same point, with the same code and message, so that all ranks can
/// end together. collectively() (parallel/transport/communicator.hpp) throws it. Any other Error may be thrown by one
/// rank only, while the others wait for that rank.
class AgreedError : public Error {
 public:
  using Error::Error;
};

/// Throws an Error with a formatted message.
template <class... Args>
[[noreturn]] void fail(ExitCode code, fmt::format_string<Args...> format, Args&&... args) {
  throw Error(code, fmt::format(format, std::forward<Args>(args)...));
}

/// Checks input from a user or a file; throws Error(usage) unless `holds`.
template <class... Args>
void require(bool holds, fmt::format_string<Args...> format, Args&&... args) {
  if (!holds) throw Error(ExitCode::usage, fmt::format(format, std::forward<Args>(args)...));
}

/// Checks an invariant of Causeway itself; throws Error(internal) unless `holds`.
template <class... Args>
void ensure(bool holds, fmt::format_string<Args...> format, Args&&... args) {
  if (!holds) throw Error(ExitCode::internal, fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace causeway
