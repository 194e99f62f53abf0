#include "src/health/fault_settings.hpp"

#include "src/health/faults.hpp"

namespace causeway {

OptionGroup fault_group(FaultSettings& settings) {
  return {"Watchdog and faults",
          {{"watchdog", &settings.watchdog, "SECONDS",
            "if no rank makes progress for so long, report where each rank is and exit with 76; 0: never"},
           {"watchdog-io", &settings.watchdog_io, "SECONDS",
            "the limit of --watchdog while files are written, flushed to the disk, renamed or removed, of which one "
            "system call can take long on a slow file system; 0: none"},
           {"inject-fault", &settings.inject, "KIND:step=N[,rank=R][,phase=P][,layer=L]",
            "make a rank fail on purpose, to test a cluster's set-up. KIND: " + fault_kinds_text() +
                ". P: " + fault_points_text() + ". config.ini does not contain this option"}}};
}

}  // namespace causeway
