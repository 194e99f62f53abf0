#include "src/standing.hpp"

#include <algorithm>

namespace causeway {

void Standing::begin_step(std::int64_t step) {
  const std::lock_guard lock(mutex_);
  place_ = {.step = step, .phase = Phase::data};
  since_ = Clock::now();
}

void Standing::enter(Phase phase) {
  const std::lock_guard lock(mutex_);
  place_.phase = phase;
  place_.layer = -1;
  since_ = Clock::now();
}

void Standing::come_to_layer(std::int64_t layer) {
  const std::lock_guard lock(mutex_);
  place_.layer = layer;
  since_ = Clock::now();
}

void Standing::beat() {
  const std::lock_guard lock(mutex_);
  since_ = Clock::now();
}

void Standing::finished(const StepFigures& figures) {
  const std::lock_guard lock(mutex_);
  figures_ = figures;
  since_ = Clock::now();
}

void Standing::writing(CheckpointStage stage, const std::string&) {
  const std::lock_guard lock(mutex_);
  writing_ = stage;
  writing_since_ = Clock::now();
}

Standing::View Standing::view() const {
  const auto seconds = [now = Clock::now()](Clock::time_point since) {
    return std::max(0.0, std::chrono::duration<double>(now - since).count());
  };
  const std::lock_guard lock(mutex_);
  return {.place = place_,
          .still_s = seconds(since_),
          .writing = writing_,
          .writing_still_s = seconds(writing_since_),
          .figures = figures_};
}

}  // namespace causeway
