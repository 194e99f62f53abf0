#pragma once

#include <functional>
#include <memory>

#include "kernels/core/stream.hpp"

namespace causeway {

/// A point in a stream's work: everything enqueued before it was made. On the CPU it has always been reached.
class Event {
 public:
  /// Here and now. With `timed`, seconds_since() may be asked.
  explicit Event(const Stream& stream, bool timed = false);

  bool reached() const;
  void wait() const;                                ///< the host, until it is reached
  void hold(const Stream& stream) const;            ///< what `stream` is given from now on starts after it
  double seconds_since(const Event& before) const;  ///< both reached, timed, on streams of one device

 private:
  std::shared_ptr<void> native_;                        // the cudaEvent_t, or null on the CPU
  std::shared_ptr<const std::function<void()>> watch_;  // the stream's watcher
  double host_seconds_ = 0;                             // on the CPU, when it was made
};

/// From now on a host that waits for `stream`, or for an event on it made after this, calls `check` now and then, which
/// may throw: what the stream waits for may never come. An empty one ends that.
void watch(const Stream& stream, std::function<void()> check);

}  // namespace causeway
