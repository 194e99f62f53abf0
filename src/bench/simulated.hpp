#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "parallel/simulation/simulate.hpp"
#include "src/bench/strategies.hpp"
#include "src/plan/profile.hpp"

namespace causeway {

/// The islands and ways of a profile's hosts. An exchange of one message takes the profile's latency: here that of a
/// message on its way, and what it occupies its ranks.
Network network_of(const Profile& profile);

/// What all ranks exchange in both passes of a strategy.
struct RecordedStrategy {
  Recording forward, backward;
  std::int64_t memory_bytes = 0;  ///< peak of the tensors of the rank with most, inputs and results included
};
/// Runs the strategy's own code for every rank, one after the other in this thread, on the stream of a dry run and
/// transports that record.
RecordedStrategy record_strategy(const StrategyWorkload& work, int ranks);

/// Both passes, each from a start at which all ranks begin together. Throws as simulate() does.
struct SimulatedStrategy {
  SimulatedStrategy(const RecordedStrategy& recorded, const Network& network, Delivery delivery)
      : forward(simulate(recorded.forward, network, delivery)),
        backward(simulate(recorded.backward, network, delivery)),
        memory_bytes(recorded.memory_bytes),
        recording_bytes(recorded.forward.memory_bytes() + recorded.backward.memory_bytes()) {}
  Simulation forward, backward;
  std::int64_t memory_bytes, recording_bytes;  ///< of a rank's tensors, at most; of this process for the recording
};

/// The variants of a strategy whose messages differ, "" if there is one: its schedules, not its methods.
std::vector<std::string> variants_with_other_messages(const StrategyWorkload& work, const OpStrategy& strategy);

/// One row of a table: an operator with a strategy, a schedule and a layout.
struct SimulatedRow {
  const StrategyWorkload& work;
  const SimulatedStrategy& simulated;
  double estimated_s = 0;  ///< the communication of both passes by the cost model; 0: not of this schedule
  double took_s = 0;       ///< this process, for the row
};
std::string head_of_simulated_rows();
std::string text_of(const SimulatedRow& row);
nlohmann::ordered_json to_json(const SimulatedRow& row);

/// The communication of both passes by the cost model, for the schedule that `auto` takes.
double estimated_communication(const StrategyWorkload& work, int ranks, const Profile& profile);

}  // namespace causeway
