#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace causeway {

/// The phases of a rank's training thread, as ranks.txt shows them.
enum class Phase : std::uint8_t {
  start,    ///< opens data, sets up mesh and device, measures strategies
  restore,  ///< initializes or reads weights and optimizer state
  data,     ///< reads a pack and copies it to the device
  forward,
  backward,
  optimizer,  ///< sums gradients, updates weights; on a GPU also waits for the whole step
  evaluate,
  checkpoint,  ///< copies a checkpoint's content, after waiting for the previous checkpoint
  write,       ///< gathers and writes scores
  done,
  watchdog,  ///< this rank has detected a stall and ends the job
};

std::string_view name_of(Phase phase);
std::optional<Phase> phase_named(std::string_view name);

}  // namespace causeway
