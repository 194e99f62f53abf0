#pragma once

#include <csignal>
#include <initializer_list>
#include <vector>

namespace causeway {

/// While it lives, some signals raise a flag instead of ending the process: for a run TERM, USR1 and USR2 ("checkpoint
/// at the next step and end with 75"). One at a time. They stay without effect when it has gone: a process on its way
/// out is not to be killed by one that was meant for all ranks and comes to this one late.
class StopSignals {
 public:
  StopSignals() : StopSignals({SIGTERM, SIGUSR1, SIGUSR2}) {}
  explicit StopSignals(std::initializer_list<int> signals);
  ~StopSignals();
  StopSignals(const StopSignals&) = delete;
  StopSignals& operator=(const StopSignals&) = delete;

  bool raised() const;

 private:
  std::vector<int> signals_;
};

}  // namespace causeway
