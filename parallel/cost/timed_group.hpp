#pragma once

#include <functional>

#include "kernels/core/stream.hpp"
#include "parallel/cost/repeated_seconds.hpp"
#include "parallel/transport/communicator.hpp"

namespace causeway {

/// The ranks that take part in timed runs, the stream, and the function that is called before each run. All ranks
/// begin a run together, so that they disturb each other as in a strategy.
struct TimedGroup {
  Communicator& ranks;
  const Stream& stream;
  const std::function<void()>& between;

  /// The median of `tries` runs, from the start, which is the same on all ranks, until the stream has finished. One run
  /// before them is not measured.
  double median_seconds(int tries, const std::function<void()>& run) const;
  /// The fastest run, measured until its time repeats, for at most about `most` seconds; the ranks agree when to stop.
  RepeatedSeconds repeated_seconds(double most, const std::function<void()>& run) const;

 private:
  double timed_run(const std::function<void()>& run) const;
};

}  // namespace causeway
