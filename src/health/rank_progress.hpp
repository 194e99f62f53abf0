#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <mutex>
#include <string>
#include <string_view>
#include <variant>

#include "io/checkpoint/checkpoint_stage.hpp"
#include "src/health/phase.hpp"

namespace causeway {

/// One rank's measurements of its last complete step.
struct StepFigures {
  double step_s = 0, compute_s = 0, comm_exposed_s = 0;
  std::int64_t tokens = 0;        ///< of its shards
  std::int64_t memory_bytes = 0;  ///< peak of its tensors
};

/// The point that a rank's training thread has reached.
struct RankPosition {
  std::int64_t step = 0;  ///< the step being computed, or the last one that was
  Phase phase = Phase::start;
  std::int64_t layer = -1;  ///< -1: in no layer
  /// Since the step began. Ranks do the same work, so the rank with the smallest count is furthest behind.
  std::int64_t heartbeats = 0;
};

/// A point that a thread of a rank has just reached: the training thread a phase, the thread that writes a checkpoint
/// a stage.
struct ProgressPoint {
  std::int64_t step = 0;  ///< for a stage: the step whose checkpoint is written
  std::variant<Phase, CheckpointStage> at;
  std::int64_t layer = -1;     ///< -1: in no layer
  std::string_view path = {};  ///< for a stage: the file or folder being written
};

/// How far one rank has come, how long each of its threads has been idle, and whether it is inside the system. The
/// training thread and the thread that writes the checkpoint record it; the watchdog's thread reads it at any time.
class RankProgress {
 public:
  /// Called in the thread that has reached the point, after it is recorded. May throw, and may not return.
  using Observer = std::function<void(const ProgressPoint&)>;
  /// Without this call there is no observer. Call it before any other thread uses this object.
  void observe(Observer observer) { observer_ = std::move(observer); }

  /// For the training thread. Each of these five counts as a heartbeat.
  void begin_step(std::int64_t step);
  void enter(Phase phase);
  void record_layer(std::int64_t layer);
  void heartbeat();
  void record_figures(const StepFigures& figures);

  /// Around system calls of the training thread that may take long on a slow file system (fsync, rename, removing
  /// files), and around waiting for a rank that makes them: see SystemCalls.
  void enter_system();
  void leave_system();

  /// For the thread that writes a checkpoint, called as a CheckpointHook is: at the start of each stage, and any number
  /// of times within one. Between two of these calls the thread is inside the system: it writes, flushes, renames or
  /// removes files.
  void record_writing(CheckpointStage stage, const std::string& path);

  struct Snapshot {
    RankPosition position;
    double idle_s = 0;  ///< seconds since the training thread's last heartbeat
    CheckpointStage writing = CheckpointStage::idle;
    double writing_idle_s = 0;       ///< seconds since the writing thread's last heartbeat
    StepFigures figures;             ///< of the last complete step
    bool in_system = false;          ///< the training thread is inside the system
    bool writing_in_system = false;  ///< so is the writing thread
  };
  Snapshot snapshot() const;

 private:
  using Clock = std::chrono::steady_clock;

  void move_to(const RankPosition& position);

  Observer observer_;
  mutable std::mutex mutex_;  // of everything below; held for a few instructions
  RankPosition position_;
  Clock::time_point last_heartbeat_ = Clock::now(), last_writing_heartbeat_ = last_heartbeat_;
  CheckpointStage writing_ = CheckpointStage::idle;
  std::int64_t writing_step_ = 0;  // the step whose checkpoint is written
  StepFigures figures_;
  int system_depth_ = 0;
  bool writing_in_system_ = false;
};

/// While it exists, the training thread counts as inside the system.
class SystemCalls {
 public:
  explicit SystemCalls(RankProgress& progress) : progress_(progress) { progress_.enter_system(); }
  ~SystemCalls() { progress_.leave_system(); }
  SystemCalls(const SystemCalls&) = delete;
  SystemCalls& operator=(const SystemCalls&) = delete;

 private:
  RankProgress& progress_;
};

}  // namespace causeway
