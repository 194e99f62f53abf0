#include "src/health/rank_progress.hpp"

#include <algorithm>

namespace causeway {

void RankProgress::begin_step(std::int64_t step) { move({.step = step, .phase = Phase::data}); }

void RankProgress::enter(Phase phase) { move({.step = view().place.step, .phase = phase}); }

void RankProgress::come_to_layer(std::int64_t layer) {
  const Place now = view().place;
  move({.step = now.step, .phase = now.phase, .layer = layer});
}

void RankProgress::move(const Place& place) {
  std::unique_lock lock(mutex_);
  const std::int64_t moves = place.step == place_.step ? place_.moves + 1 : 0;
  place_ = place;
  place_.moves = moves;
  since_ = Clock::now();
  const std::optional<Fault> fault = faults_.take(place.step, place.phase, place.layer);
  lock.unlock();
  if (fault) faults_.set_off(*fault, "");
}

bool RankProgress::poisoned(Phase phase) const {
  const std::lock_guard lock(mutex_);
  return place_.phase == phase && faults_.poison(place_.step, phase, place_.layer);
}

void RankProgress::beat() {
  const std::lock_guard lock(mutex_);
  ++place_.moves;
  since_ = Clock::now();
}

void RankProgress::finished(const StepFigures& figures) {
  const std::lock_guard lock(mutex_);
  figures_ = figures;
  since_ = Clock::now();
}

void RankProgress::writing(CheckpointStage stage, const std::string& path) {
  std::unique_lock lock(mutex_);
  if (stage == CheckpointStage::copy) writing_step_ = place_.step;
  writing_ = stage;
  writing_since_ = Clock::now();
  const std::optional<Fault> fault = faults_.take(writing_step_, stage, -1);
  lock.unlock();
  if (fault) faults_.set_off(*fault, path);
}

RankProgress::View RankProgress::view() const {
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
