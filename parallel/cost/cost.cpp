#include "parallel/cost/cost.hpp"

#include <algorithm>

namespace causeway {

double computing_seconds(const Cost& cost, const Machine& machine) {
  return cost.operations / machine.operations_per_s;
}

double communicating_seconds(const Cost& cost, const Machine& machine) {
  return static_cast<double>(cost.messages) * machine.latency_s +
         static_cast<double>(cost.bytes_sent) / machine.bytes_per_s;
}

double seconds(const Cost& cost, const Machine& machine) {
  const double computing = computing_seconds(cost, machine), communicating = communicating_seconds(cost, machine);
  return std::max(computing, cost.hidden * communicating) + (1 - cost.hidden) * communicating;
}

}  // namespace causeway
