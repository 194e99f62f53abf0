#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "src/health/rank_board.hpp"
#include "src/run/attempts.hpp"
#include "src/watch/history.hpp"

namespace causeway {

/// Model, machine and mesh, from environment.json.
struct RunSetup {
  std::string model, dtype, device, layout, transport, revision;
  std::optional<std::int64_t> parameters, steps, ranks, data, context;
  std::vector<std::string> hosts;  ///< one for each rank
};

/// The content of exit.json.
struct RunEnd {
  std::optional<std::int64_t> code, step;
  std::string reason;
  std::optional<double> seconds;
};

/// Everything that `causeway watch` shows of a run. Texts are as in the files: before they are shown they must pass
/// through printable().
struct RunState {
  std::string path;
  RunSetup setup;
  History history;
  std::optional<double> metrics_modified;  ///< seconds since 1970
  std::int64_t unread_bytes = 0;           ///< of metrics.jsonl
  std::optional<std::int64_t> latest_checkpoint;
  std::vector<RankLine> ranks;    ///< in rank order; only those that have a line in ranks.txt
  std::vector<Attempt> attempts;  ///< oldest first
  std::optional<RunEnd> end;
};

}  // namespace causeway
