#pragma once

#include <cstdint>
#include <functional>

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

/// One rank's clock and network.
class VirtualRank {
 public:
  virtual ~VirtualRank() = default;
  virtual RankTime now() = 0;
  virtual void set_network(const Network& network) = 0;  ///< from now on
};

/// Runs `body` on `ranks` threads in virtual time, at first without delays. A rank's clock advances by its thread's
/// processor time while the rank computes, and stops during the transport's work. A message leaves when the sender's
/// link is free, occupies the link for bytes · seconds_a_byte, and arrives after the latency. A wait sets the clock to
/// the last arrival of the messages it waits for, and at least to the time when its own messages have left. A barrier
/// sets all clocks to the latest one. One rank computes at a time, with one thread, so that ranks do not slow each
/// other down.
void in_virtual_time(int ranks, const std::function<void(Communicator& world, VirtualRank& self)>& body);

}  // namespace causeway::test
