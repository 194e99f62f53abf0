#pragma once

#include <cstdint>
#include <vector>

#include "parallel/simulation/recording.hpp"

namespace causeway {

/// Islands of ranks with neighbouring numbers, which have links of their own (NVLink), on a fat tree of switches.
/// A rank sends and receives at the same time, over its island and over the network at the same time. The messages that
/// a start() sends over one of them share it and leave together.
struct Network {
  struct Way {
    double latency_s = 0, bytes_per_s = 1;
    double message_s = 0;  ///< that each message occupies the sender and the receiver, beside its bytes
  };
  int island_ranks = 8, leaf_ranks = 256;  ///< of a leaf switch: whole islands
  Way island, network;
  double across_s = 0;          ///< more latency between two leaves
  double oversubscription = 1;  ///< bandwidth below a leaf over that above it, of which every rank has an equal share

  bool same_island(int a, int b) const { return a / island_ranks == b / island_ranks; }
  bool same_leaf(int a, int b) const { return a / leaf_ranks == b / leaf_ranks; }
};

/// What a transport guarantees at least. What does not deadlock in order does not deadlock on any transport.
enum class Delivery : std::uint8_t {
  buffered,  ///< a sender does not wait for the receiver (threads; MPI's short messages)
  in_order,  ///< a rank's starts run one after the other, each until both sides of all its messages are there (NCCL)
};

struct SimulatedRank {
  std::int64_t bytes_sent = 0, messages_sent = 0;
  std::int64_t network_bytes = 0;  ///< of these, to other islands
  std::int64_t starts = 0;         ///< exchanges
  double waiting_s = 0, end_s = 0;
};

struct Simulation {
  std::vector<SimulatedRank> ranks;

  double seconds() const;  ///< until the last rank ends
  double mean_waiting_s() const;
  std::int64_t bytes() const;
  std::int64_t most_bytes() const;  ///< of a rank
  std::int64_t messages() const;
  std::int64_t most_messages() const;
  double balance() const;  ///< the bytes of the rank with most over the mean; 1 without messages
};

/// Lets every rank take its recorded steps, each with a clock of its own; computing takes no time. The result does not
/// depend on the order in which ranks are looked at. Throws Error(internal) that names ranks if some wait for ever, if
/// a message is never received, or if it is not as long as the receiver expects.
Simulation simulate(const Recording& recording, const Network& network, Delivery delivery);

}  // namespace causeway
