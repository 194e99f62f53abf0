#pragma once

#include <cstdint>
#include <functional>

#include "parallel/transport/communicator.hpp"

/// Ranks whose messages take time: shows whether communication hides behind computation, on any machine, however busy.
namespace causeway::test {

/// A network between ranks, each of which has one link out: its messages leave one after the other.
struct Network {
  double latency_s = 0;
  double seconds_a_byte = 0;
};

/// What a rank's clock says.
struct RankTime {
  double computing_s = 0;  ///< processor time of its own, outside of the transport
  double total_s = 0;      ///< that, and the waits
  std::int64_t bytes_sent = 0;
};

/// One rank's clock and network.
class VirtualRank {
 public:
  virtual ~VirtualRank() = default;
  virtual RankTime now() = 0;
  virtual void set_network(const Network& network) = 0;  ///< from now on
};

/// Runs `body` on `ranks` threads in virtual time, at first without delays. A rank's clock runs with its thread's
/// processor time while it computes, stands still while the transport works, and jumps where it waits: a message leaves
/// when the sender's link is free, occupies it for bytes · seconds_a_byte and is there a latency later; a wait sets the
/// clock to the last arrival of what it waits for, and to its own last departure; a barrier sets all clocks to the
/// latest. One rank computes at a time, with one
/// thread, so that ranks do not slow each other.
void in_virtual_time(int ranks, const std::function<void(Communicator& world, VirtualRank& self)>& body);

}  // namespace causeway::test
