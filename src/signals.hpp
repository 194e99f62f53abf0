#pragma once

#include <array>
#include <csignal>

namespace causeway {

/// While it lives, TERM, USR1 and USR2 ("checkpoint at the next step and end with 75") raise a flag instead of ending
/// the process. One at a time. Once raised, they stay without effect when it has gone: a process on its way out, to ask
/// for being started again, is not to be killed by a second one.
class StopSignals {
 public:
  StopSignals();
  ~StopSignals();
  StopSignals(const StopSignals&) = delete;
  StopSignals& operator=(const StopSignals&) = delete;

  bool raised() const;

 private:
  std::array<struct sigaction, 3> before_{};
};

}  // namespace causeway
