#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace causeway {

/// What a rank is at.
enum class Phase : std::uint8_t {
  start,    ///< data, mesh and devices are made ready, strategies measured
  restore,  ///< weights and optimizer get their values
  data,     ///< a pack is read and placed
  forward,
  backward,
  optimizer,  ///< gradients are summed, weights updated; on a GPU also the wait for all of the step
  evaluate,
  checkpoint,  ///< the training thread's part of it, and its wait for the one before
  write,       ///< scores come together and are written
  done,
  watchdog,  ///< this rank has found that nothing moves, and ends the job
};

std::string_view name_of(Phase phase);
std::optional<Phase> phase_named(std::string_view name);

}  // namespace causeway
