#pragma once

#include <string>

#include "src/watch/metrics_reader.hpp"
#include "src/watch/run_state.hpp"

namespace causeway {

/// Reads a run's folder again and again, and nothing else: no lock, no message, no file of its own. Whatever is missing
/// or is not what it should be stays empty.
class RunReader {
 public:
  explicit RunReader(std::string run);

  /// Reads what is new, for at most about `seconds`.
  RunState poll(double seconds);

 private:
  std::string run_;
  MetricsReader metrics_;
};

}  // namespace causeway
