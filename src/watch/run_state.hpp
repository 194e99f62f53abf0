#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "src/health/rank_board.hpp"
#include "src/run/attempts.hpp"
#include "src/watch/history.hpp"

namespace causeway {

/// What is trained and on what, as environment.json says it.
struct RunSetup {
  std::string model, dtype, device, layout, transport, revision;
  std::optional<std::int64_t> parameters, steps, ranks, data, context;
  std::vector<std::string> hosts;  ///< a rank each
};

/// exit.json.
struct RunEnd {
  std::optional<std::int64_t> code, step;
  std::string reason;
  std::optional<double> seconds;
};

/// All that `causeway watch` knows of a run. Texts are as the files have them: whoever shows them makes them harmless.
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
