#pragma once

#include <array>
#include <csignal>

namespace causeway {

/// While it lives, TERM, USR1 and USR2 ("checkpoint at the next step and end with 75") raise a flag instead of ending
/// the process. One at a time.
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
