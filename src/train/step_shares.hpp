#pragma once

#include <cstdint>

#include "parallel/transport/communicator.hpp"

namespace causeway {

/// What one rank knows of a step it has computed.
struct RankShare {
  double step_s = 0;                   ///< from its start to its end on this rank
  double exposed_s = 0, hidden_s = 0;  ///< communication it waited for, and communication behind computing
  std::int64_t bytes_sent = 0, memory_bytes = 0;
};

/// The same of all ranks together.
struct StepShares {
  double step_s = 0, compute_s = 0, exposed_s = 0, hidden_s = 0;  ///< means; compute_s is what a rank did not wait
  double balance = 1;             ///< the mean compute_s over the largest: 1 where no rank waits for another
  std::int64_t slowest_rank = 0;  ///< whose compute_s is the largest
  std::int64_t bytes_sent = 0;    ///< the sum
  std::int64_t memory_bytes = 0;  ///< the largest
};

/// One small all_gather. Collective; the same on every rank.
StepShares gather_shares(Communicator& world, const RankShare& mine);

}  // namespace causeway
