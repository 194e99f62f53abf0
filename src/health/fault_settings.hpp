#pragma once

#include <string>
#include <vector>

#include "src/cli/config.hpp"

namespace causeway {

/// The watchdog's limits, and the faults to inject. Used by train and score.
struct FaultSettings {
  double watchdog = 1800;           ///< seconds without progress; 0: no limit
  double watchdog_io = 7200;        ///< seconds inside one system call that writes; 0: no limit
  std::vector<std::string> inject;  ///< as parse_fault reads them
};

/// The options of these settings.
OptionGroup fault_group(FaultSettings& settings);

}  // namespace causeway
