#pragma once

#include <cstdint>

namespace causeway {

/// The cost of the forward pass of an operator with one strategy, on the rank with the most work.
struct Cost {
  double operations = 0;  ///< multiply-adds
  std::int64_t bytes_sent =
      0;  ///< by the formula of strategies/README.md, exactly: tests compare the transport's counter
  std::int64_t messages = 0;  ///< of which each waits for the previous one
  double hidden = 0;          ///< the fraction of the communication that overlaps with computation, 0 to 1
};

/// The speed of a machine, as measure.hpp finds it.
struct Machine {
  double latency_s = 3e-6;         ///< of one message
  double bytes_per_s = 1e10;       ///< that one rank sends
  double operations_per_s = 1e10;  ///< multiply-adds of one rank
  bool repeats = true;             ///< false: this rate was not the same again within a second
};

double computing_seconds(const Cost& cost, const Machine& machine);
double communicating_seconds(const Cost& cost, const Machine& machine);  ///< hidden or exposed
/// max(computing, hidden·communicating) + (1 - hidden)·communicating.
double seconds(const Cost& cost, const Machine& machine);

}  // namespace causeway
