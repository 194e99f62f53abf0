#pragma once

#include <memory>

#include "kernels/stream.hpp"

namespace causeway {

/// A point in a stream's work: everything enqueued before it was made. On the CPU it has always been reached.
class Event {
 public:
  /// Here and now. With `timed`, seconds_since() may be asked.
  explicit Event(const Stream& stream, bool timed = false);

  bool reached() const;
  void wait() const;                       ///< the host, until it is reached
  void hold(const Stream& stream) const;   ///< what `stream` is given from now on starts after it
  double seconds_since(const Event& before) const;  ///< both reached, timed, on streams of one device

 private:
  std::shared_ptr<void> native_;  // the cudaEvent_t, or null on the CPU
  double host_seconds_ = 0;       // on the CPU, when it was made
};

}  // namespace causeway
