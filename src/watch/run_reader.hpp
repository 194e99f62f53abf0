#pragma once

#include <string>

#include "src/watch/metrics_reader.hpp"
#include "src/watch/run_state.hpp"

namespace causeway {

/// Reads the files of a run directory repeatedly. It takes no lock, sends no message and writes no file. What is
/// missing or invalid stays empty.
class RunReader {
 public:
  explicit RunReader(std::string run);

  /// Reads all files again; of metrics.jsonl only the new lines, for at most about `seconds`.
  RunState poll(double seconds);

 private:
  std::string run_;
  MetricsReader metrics_;
};

}  // namespace causeway
