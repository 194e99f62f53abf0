#pragma once

#include <chrono>
#include <cstdint>
#include <mutex>
#include <string>

#include "io/checkpoint/checkpoint_stage.hpp"
#include "src/health/faults.hpp"

namespace causeway {

/// What a rank knows of its last whole step.
struct StepFigures {
  double step_s = 0, compute_s = 0, comm_exposed_s = 0;
  std::int64_t tokens = 0;        ///< of its shards
  std::int64_t memory_bytes = 0;  ///< high water of its tensors
};

/// Where a rank is.
struct Place {
  std::int64_t step = 0;  ///< being computed, or the last one computed where there is none
  Phase phase = Phase::start;
  std::int64_t layer = -1;  ///< -1: in none
  std::int64_t moves = 0;   ///< signs of life since the step began: of ranks that do the same, how far each has come
};

/// Where one rank is, and since when it has shown no sign of life: told by its training thread and by the thread that
/// writes its checkpoint, read by its watchdog at any time. Faults that are injected go off as it is told.
class RankProgress {
 public:
  RankProgress() = default;
  explicit RankProgress(Faults faults) : faults_(std::move(faults)) {}

  /// The training thread. Each of these is a sign of life.
  void begin_step(std::int64_t step);
  void enter(Phase phase);
  void come_to_layer(std::int64_t layer);
  void beat();
  void finished(const StepFigures& figures);
  /// Whether the output of the layer it came to last, or the gradient of that output, is to become NaN in `phase`.
  bool poisoned(Phase phase) const;

  /// Whichever thread writes a checkpoint, as a CheckpointHook does: at each stage and, within one, as often as it
  /// likes.
  void writing(CheckpointStage stage, const std::string& path);

  struct View {
    Place place;
    double still_s = 0;  ///< seconds since the training thread's last sign of life
    CheckpointStage writing = CheckpointStage::idle;
    double writing_still_s = 0;  ///< and since the writing thread's
    StepFigures figures;         ///< of the last whole step
  };
  View view() const;

 private:
  using Clock = std::chrono::steady_clock;

  void move(const Place& place);

  mutable std::mutex mutex_;  // of everything below; held for a few instructions
  Faults faults_;
  Place place_;
  Clock::time_point since_ = Clock::now(), writing_since_ = since_;
  CheckpointStage writing_ = CheckpointStage::idle;
  std::int64_t writing_step_ = 0;  // whose checkpoint it is
  StepFigures figures_;
};

}  // namespace causeway
