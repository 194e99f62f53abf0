#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

#include "parallel/transport/communicator.hpp"

namespace causeway {

/// The time that a checkpoint of generated values takes, in seconds of the slowest rank.
struct CheckpointMeasurement {
  std::int64_t bytes = 0;       ///< of all files
  double first_copy_s = 0;      ///< until training could continue, for the first copy, which allocates its memory
  double copy_s = 0;            ///< the same in later checkpoints: the fastest
  double published_s = 0;       ///< from the start of the copy until the checkpoint is published: the fastest
  double checked_s = 0;         ///< opening it, which checks the size and the SHA-256 of every file
  double read_s = 0;            ///< each rank reads its own part
  std::int64_t host_bytes = 0;  ///< of a rank's copy in host memory
};

/// Writes `bytes` of f32 in 96 tensors a few times below `folder`, sharded over the ranks like the state of an
/// optimizer; checks them, reads them back and removes them. Collective; the result is the same on every rank.
CheckpointMeasurement measure_checkpoint(const std::string& folder, std::int64_t bytes, Communicator& ranks,
                                         const Stream& stream);

std::string text_of(const CheckpointMeasurement& found, int ranks, Device device);
nlohmann::ordered_json to_json(const CheckpointMeasurement& found, int ranks);

}  // namespace causeway
