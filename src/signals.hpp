#pragma once

#include <csignal>
#include <initializer_list>
#include <vector>

namespace causeway {

/// While it lives, some signals raise a flag instead of ending the process: for a run TERM, USR1 and USR2 ("checkpoint at
/// the next step and end with 75"). One at a time. Once raised, they stay without effect when it has gone: a process on its
/// way out, to ask for being started again, is not to be killed by a second one.
class StopSignals {
 public:
  StopSignals() : StopSignals({SIGTERM, SIGUSR1, SIGUSR2}) {}
  explicit StopSignals(std::initializer_list<int> signals);
  ~StopSignals();
  StopSignals(const StopSignals&) = delete;
  StopSignals& operator=(const StopSignals&) = delete;

  bool raised() const;

 private:
  struct Before {
    int signal;
    struct sigaction action;
  };
  std::vector<Before> before_;
};

}  // namespace causeway
