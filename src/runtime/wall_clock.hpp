#pragma once

#include <chrono>

namespace causeway {

/// The seconds since it was constructed, by a monotonic clock.
class WallClock {
 public:
  double seconds() const { return std::chrono::duration<double>(Clock::now() - started_).count(); }

 private:
  using Clock = std::chrono::steady_clock;
  Clock::time_point started_ = Clock::now();
};

}  // namespace causeway
