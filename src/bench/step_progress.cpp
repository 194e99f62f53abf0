#include "src/bench/step_progress.hpp"

namespace causeway {

namespace {
constexpr double reported_s = 3, seconds_between_lines = 5;
}

void StepProgress::end_stage(const std::string& what) {
  if (stage_.seconds() >= reported_s)
    log_.info("{:.1f} s: {} in {:.1f} s", since_start_.seconds(), what, stage_.seconds());
  stage_ = line_ = WallClock();
}

void StepProgress::enqueued(Phase phase, std::int64_t block) {
  if (phase == Phase::backward) phase_ = phase;  // blocks that run forward again belong to the backward pass
  if (phase != phase_ || line_.seconds() < seconds_between_lines) return;
  line_ = WallClock();
  log_.info("{:.1f} s: {:.1f} s of a step, {} pass, block {} of {}", since_start_.seconds(), stage_.seconds(),
            phase == Phase::forward ? "forward" : "backward", block + 1, blocks_);
}

void StepProgress::end_step(std::int64_t number) {
  end_stage(fmt::format("step {}", number));
  phase_ = Phase::forward;
}

}  // namespace causeway
