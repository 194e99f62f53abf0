#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "parallel/transport/communicator.hpp"

/// Ranks in virtual time, whose messages take time: it shows whether computation hides communication, on any machine
/// and under any load.
namespace causeway::test {

/// A network in which each rank has one outgoing link: it sends its messages one after the other.
struct Network {
  double latency_s = 0;
  double seconds_a_byte = 0;
};

/// A rank's clock and counters.
struct RankTime {
  double computing_s = 0;  ///< the rank's processor time outside the transport
  double total_s = 0;      ///< the same plus the waits
  std::int64_t bytes_sent = 0;
};

/// The processor time of each part of a run between two calls of the transport, the shortest of several runs. Processor
/// time is an imprecise clock on a shared machine: two threads of one core slow each other. Every part of a run is fast
/// in some repetition, but hardly ever all of them in the same one.
using LeastSeconds = std::vector<double>;

/// One rank's clock and network.
class VirtualRank {
 public:
  virtual ~VirtualRank() = default;
  virtual RankTime now() = 0;
  virtual void set_network(const Network& network) = 0;  ///< from now on
  /// From now on a run makes the same calls of the transport as those that `least` knows, and each part counts with its
  /// least time, this run's included. Null: with its own time again.
  virtual void count_least(LeastSeconds* least) = 0;
};

/// Runs `body` on `ranks` threads in virtual time, at first without delays. A rank's clock advances by its thread's
/// processor time while the rank computes, and stops during the transport's work. A message leaves when the sender's
/// link is free, occupies the link for bytes · seconds_a_byte, and arrives after the latency. A wait sets the clock to
/// the last arrival of the messages it waits for, and at least to the time when its own messages have left. A barrier
/// sets all clocks to the latest one. One rank computes at a time, with one thread, so that ranks do not slow each
/// other down.
void in_virtual_time(int ranks, const std::function<void(Communicator& world, VirtualRank& self)>& body);

}  // namespace causeway::test
