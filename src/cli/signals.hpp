#pragma once

#include <csignal>
#include <initializer_list>
#include <vector>

namespace causeway {

/// While the object exists, some signals set a flag instead of ending the process: by default TERM, USR1 and USR2,
/// which ask a run to write a checkpoint and to end with 75. Only one object may exist at a time. After its destruction
/// the signals are ignored: a late signal must not kill a process that is ending.
class StopSignals {
 public:
  /// TERM, USR1, USR2 and INT (Ctrl-C). The first INT also says so on standard error; the second one ends the process
  /// at once.
  StopSignals();
  explicit StopSignals(std::initializer_list<int> signals);
  ~StopSignals();
  StopSignals(const StopSignals&) = delete;
  StopSignals& operator=(const StopSignals&) = delete;

  bool raised() const;

 private:
  std::vector<int> signals_;
};

}  // namespace causeway
