#pragma once

#include <cstdint>

#include "parallel/transport/communicator.hpp"

namespace causeway {

/// One rank's measurements of a step.
struct RankMeasurements {
  double step_s = 0;     ///< from the step's start to its end on this rank
  double exposed_s = 0;  ///< communication that the rank waited for
  double hidden_s = 0;   ///< communication that ran while the rank computed
  std::int64_t bytes_sent = 0, memory_bytes = 0;
};

/// The measurements of all ranks combined.
struct StepMeasurements {
  /// Means over the ranks; compute_s = step_s - exposed_s.
  double step_s = 0, compute_s = 0, exposed_s = 0, hidden_s = 0;
  double balance = 1;             ///< the mean compute_s over the largest: 1 where all ranks compute equally long
  std::int64_t slowest_rank = 0;  ///< the rank with the largest compute_s
  std::int64_t bytes_sent = 0;    ///< the sum
  std::int64_t memory_bytes = 0;  ///< the largest
};

/// Combines them with one all_gather of 40 bytes a rank. Collective; the result is the same on every rank.
StepMeasurements gather_measurements(Communicator& world, const RankMeasurements& own);

}  // namespace causeway
