#pragma once

#include <fmt/format.h>

#include <stdexcept>
#include <string>

namespace causeway {

/// How a run ends; every rank of a run ends with the same one. 65, 70, 74, 75 follow BSD's sysexits.h.
enum class ExitCode : int {
  ok = 0,
  internal = 1,     ///< a defect of Causeway, or a resource it could not get
  usage = 2,        ///< a wrong option or a bad input file
  corrupt = 65,     ///< a checkpoint or dataset whose bytes are damaged
  non_finite = 70,  ///< the loss became infinite or NaN
  io = 74,          ///< reading or writing a file failed
  requeue = 75,     ///< checkpointed after a signal: start me again
  watchdog = 76,    ///< no progress for too long
};

/// The one exception type: says what was found, what was expected and where. main() prints it once and exits with its
/// code.
class Error : public std::runtime_error {
 public:
  Error(ExitCode code, const std::string& what) : std::runtime_error(what), code_(code) {}
  ExitCode code() const noexcept { return code_; }

 private:
  ExitCode code_;
};

/// An Error that every rank of the run throws at the same point with the same code and message, so that all can end in
/// step: what collectively() (parallel/transport/communicator.hpp) throws. Any other Error is one rank's own, and its
/// peers may be waiting for it.
class AgreedError : public Error {
 public:
  using Error::Error;
};

template <class... Args>
[[noreturn]] void fail(ExitCode code, fmt::format_string<Args...> format, Args&&... args) {
  throw Error(code, fmt::format(format, std::forward<Args>(args)...));
}

/// Checks what a caller or a file handed in; throws Error with ExitCode::usage.
template <class... Args>
void require(bool holds, fmt::format_string<Args...> format, Args&&... args) {
  if (!holds) throw Error(ExitCode::usage, fmt::format(format, std::forward<Args>(args)...));
}

/// Checks what Causeway itself promises; throws Error with ExitCode::internal.
template <class... Args>
void ensure(bool holds, fmt::format_string<Args...> format, Args&&... args) {
  if (!holds) throw Error(ExitCode::internal, fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace causeway
