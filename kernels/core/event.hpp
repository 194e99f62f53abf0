#pragma once

#include <functional>
#include <memory>

#include "kernels/core/stream.hpp"

namespace causeway {

/// A point in a stream's work: it is reached when all work that was enqueued before it is done. A stream on the CPU
/// computes at once, so its events are always reached.
class Event {
 public:
  /// Records the event at the current end of the stream's work. seconds_since() needs `timed`.
  explicit Event(const Stream& stream, bool timed = false);

  bool reached() const;
  void wait() const;                                ///< the host waits until it is reached
  void block(const Stream& stream) const;           ///< work enqueued on `stream` from now on starts after it
  double seconds_since(const Event& before) const;  ///< both must be reached, timed, and of one device

 private:
  std::shared_ptr<void> native_;                        // the cudaEvent_t; null on the CPU
  std::shared_ptr<const std::function<void()>> check_;  // the stream's check_while_waiting()
  double host_seconds_ = 0;                             // when it was made; times a CPU event
};

/// From now on a host that waits for `stream`, or for an event recorded on it later, calls `check` every 200 µs.
/// `check` may throw to end the wait: the stream may depend on a rank that has died. An empty function removes the
/// check.
void check_while_waiting(const Stream& stream, std::function<void()> check);

}  // namespace causeway
