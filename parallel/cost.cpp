#include "parallel/cost.hpp"

#include <algorithm>

namespace causeway {

double seconds(const Cost& cost, const Machine& machine) {
  const double computing = cost.operations / machine.operations_per_s;
  const double sending = static_cast<double>(cost.messages) * machine.latency_s +
                         static_cast<double>(cost.bytes_sent) / machine.bytes_per_s;
  return std::max(computing, cost.hidden * sending) + (1 - cost.hidden) * sending;
}

}  // namespace causeway
