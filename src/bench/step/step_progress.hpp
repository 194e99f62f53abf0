#pragma once

#include <cstdint>
#include <string>

#include "src/cli/log.hpp"
#include "src/health/phase.hpp"
#include "src/runtime/wall_clock.hpp"

namespace causeway {

/// Says on standard error where the time of a long measurement goes, also if that is ended before it has a result. What
/// takes less than a few seconds is not reported. Only the first rank prints.
class StepProgress {
 public:
  StepProgress(int rank, std::int64_t blocks) : log_(rank), blocks_(blocks) {}

  /// A stage has ended; it began with the end of the stage before.
  void end_stage(const std::string& what) {
    constexpr double reported_s = 3;
    if (stage_.seconds() >= reported_s)
      log_.info("{:.1f} s: {} in {:.1f} s", since_start_.seconds(), what, stage_.seconds());
    stage_ = line_ = WallClock();
  }

  /// The host has enqueued a block of the step that runs. It is at most about 1,000 kernels ahead of a GPU.
  void enqueued(Phase phase, std::int64_t block) {
    constexpr double seconds_between_lines = 5;
    if (phase == Phase::backward) phase_ = phase;  // blocks that run forward again belong to the backward pass
    if (phase != phase_ || line_.seconds() < seconds_between_lines) return;
    line_ = WallClock();
    log_.info("{:.1f} s: {:.1f} s of a step, {} pass, block {} of {}", since_start_.seconds(), stage_.seconds(),
              phase == Phase::forward ? "forward" : "backward", block + 1, blocks_);
  }

  void end_step(std::int64_t number) {
    end_stage(fmt::format("step {}", number));
    phase_ = Phase::forward;
  }

 private:
  Log log_;
  std::int64_t blocks_;
  WallClock since_start_, stage_, line_;
  Phase phase_ = Phase::forward;  // of the step that runs
};

}  // namespace causeway
