#pragma once

#include <cstdint>
#include <string>

#include "parallel/transport/communicator.hpp"

namespace causeway {

/// Seconds, each the slowest rank's, that a checkpoint of made-up numbers takes.
struct CheckpointMeasurement {
  std::int64_t bytes = 0;       ///< of all files
  double first_copy_s = 0;      ///< until training could have gone on, the memory for the copy being new
  double copy_s = 0;            ///< and in later checkpoints, the fastest
  double published_s = 0;       ///< from the copy's beginning until it was announced, the fastest
  double checked_s = 0;         ///< opening it: size and SHA-256 of every file
  double read_s = 0;            ///< every rank's own part
  std::int64_t host_bytes = 0;  ///< of a rank's copy
};

/// Writes `bytes` of f32 in 96 tensors, shared by the ranks as an optimizer's state is, a few times below `folder`,
/// checks and reads them back, and removes them. Collective, the same on every rank.
CheckpointMeasurement measure_checkpoint(const std::string& folder, std::int64_t bytes, Communicator& ranks,
                                         const Stream& stream);

}  // namespace causeway
