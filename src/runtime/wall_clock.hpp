#pragma once

#include <chrono>

namespace causeway {

/// Seconds since it was made, by a clock that never goes back.
class WallClock {
 public:
  double seconds() const { return std::chrono::duration<double>(Clock::now() - started_).count(); }

 private:
  using Clock = std::chrono::steady_clock;
  Clock::time_point started_ = Clock::now();
};

}  // namespace causeway
