#include "src/health/rank_progress.hpp"

#include <algorithm>

namespace causeway {

void RankProgress::begin_step(std::int64_t step) { move_to({.step = step, .phase = Phase::data}); }

void RankProgress::enter(Phase phase) { move_to({.step = snapshot().position.step, .phase = phase}); }

void RankProgress::record_layer(std::int64_t layer) {
  const RankPosition now = snapshot().position;
  move_to({.step = now.step, .phase = now.phase, .layer = layer});
}

void RankProgress::move_to(const RankPosition& position) {
  {
    const std::lock_guard lock(mutex_);
    const std::int64_t heartbeats = position.step == position_.step ? position_.heartbeats + 1 : 0;
    position_ = position;
    position_.heartbeats = heartbeats;
    last_heartbeat_ = Clock::now();
  }
  if (observer_) observer_({.step = position.step, .at = position.phase, .layer = position.layer});
}

void RankProgress::heartbeat() {
  const std::lock_guard lock(mutex_);
  ++position_.heartbeats;
  last_heartbeat_ = Clock::now();
}

void RankProgress::enter_system() {
  const std::lock_guard lock(mutex_);
  ++system_depth_;
  last_heartbeat_ = Clock::now();
}

void RankProgress::leave_system() {
  const std::lock_guard lock(mutex_);
  --system_depth_;
  last_heartbeat_ = Clock::now();
}

void RankProgress::record_figures(const StepFigures& figures) {
  const std::lock_guard lock(mutex_);
  figures_ = figures;
  last_heartbeat_ = Clock::now();
}

void RankProgress::record_writing(CheckpointStage stage, const std::string& path) {
  std::int64_t step = 0;
  {
    const std::lock_guard lock(mutex_);
    if (stage == CheckpointStage::copy) writing_step_ = position_.step;
    writing_ = stage;
    writing_in_system_ = false;
    last_writing_heartbeat_ = Clock::now();
    // The training thread may have waited for the writing thread: that time is over.
    if (stage == CheckpointStage::hashed || stage == CheckpointStage::idle) last_heartbeat_ = last_writing_heartbeat_;
    step = writing_step_;
  }
  if (observer_) observer_({.step = step, .at = stage, .path = path});
  using enum CheckpointStage;
  const std::lock_guard lock(mutex_);
  writing_in_system_ = stage != copy && stage != hashed && stage != idle;
}

RankProgress::Snapshot RankProgress::snapshot() const {
  const auto seconds = [now = Clock::now()](Clock::time_point since) {
    return std::max(0.0, std::chrono::duration<double>(now - since).count());
  };
  const std::lock_guard lock(mutex_);
  return {.position = position_,
          .idle_s = seconds(last_heartbeat_),
          .writing = writing_,
          .writing_idle_s = seconds(last_writing_heartbeat_),
          .figures = figures_,
          .in_system = system_depth_ > 0,
          .writing_in_system = writing_in_system_};
}

}  // namespace causeway
