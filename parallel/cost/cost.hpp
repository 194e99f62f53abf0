#pragma once

#include <cstdint>

namespace causeway {

/// What a forward pass of an operator under a strategy costs the rank that has most to do.
struct Cost {
  double operations = 0;        ///< multiply-adds
  std::int64_t bytes_sent = 0;  ///< strategies.md's formula, exactly: the transport's counter is held against it
  std::int64_t messages = 0;    ///< that wait for one another
  double hidden = 0;            ///< the part of the communication that is in flight behind the computation, 0 to 1
};

/// What the ranks were measured to do (measure.hpp).
struct Machine {
  double latency_s = 3e-6;         ///< of a message
  double bytes_per_s = 1e10;       ///< a rank sends
  double operations_per_s = 1e10;  ///< a rank computes, in Cost's multiply-adds
};

double computing_seconds(const Cost& cost, const Machine& machine);
double communicating_seconds(const Cost& cost, const Machine& machine);  ///< hidden or not
/// operations/rate, then the communication, less what of it hides behind the operations.
double seconds(const Cost& cost, const Machine& machine);

}  // namespace causeway
