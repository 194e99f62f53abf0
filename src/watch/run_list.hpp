#pragma once

#include <map>
#include <span>
#include <string>
#include <vector>

#include "src/run/natural_order.hpp"
#include "src/watch/run_reader.hpp"
#include "src/watch/text.hpp"

namespace causeway {

/// Whether a folder has files that only a run directory has, or checkpoints.
bool is_run(const std::string& folder);
/// The names of the folders in `folder` that are runs, in the order of people (NaturalLess). Throws Error(io) where the
/// folder cannot be listed.
std::vector<std::string> runs_in(const std::string& folder);
/// runs_in(), of a folder that is neither a run nor a checkpoint itself: throws Error(usage) where it contains no run.
std::vector<std::string> require_runs_in(const std::string& folder);

/// A run of a list, and what is known of its state.
struct ListedRun {
  std::string name;
  RunState state;
};

/// Reads the runs of a folder repeatedly, also those that are added later.
class RunListReader {
 public:
  explicit RunListReader(std::string folder) : folder_(std::move(folder)) {}
  /// Reads for at most about `seconds`.
  std::vector<ListedRun> poll(double seconds);

 private:
  std::string folder_;
  std::map<std::string, RunReader, NaturalLess> readers_;
};

/// The lines that `causeway watch RUNS` and `causeway inspect RUNS` print of the runs in `folder` at `now` (seconds
/// since 1970): a line for each with its name, state (running, finished, stopped, failed), step, losses, the time of
/// its last change, and the reason of a failure. At most look.height lines: the runs that were active most
/// recently are shown. A pure function.
std::vector<std::string> build_run_list(const std::string& folder, std::span<const ListedRun> runs, double now,
                                        const Look& look);

}  // namespace causeway
